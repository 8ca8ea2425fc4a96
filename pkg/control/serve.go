package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	delta "github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/watch"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

const (
	maxRequest    = 16 << 20 // bytes: a reconnecting node names all it holds
	serverTTL     = 24 * time.Hour
	connectionAge = 30 * time.Minute // then the caller must prove itself again
	drainTime     = 2 * time.Second
)

// Run serves until ctx ends.
func (p *Plane) Run(ctx context.Context) error {
	p.nodes.callers, p.nodes.logger = p.callers, p.config.Logger
	certificate := &serverCertificate{authority: p.authority, names: p.serverNames(), addresses: p.serverAddresses()}
	if _, err := certificate.get(nil); err != nil {
		return errors.Join(err, p.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.source.run(ctx) })
	g.Go(func() error { return p.serveGRPC(ctx, certificate) })
	g.Go(func() error { return p.serveStatus(ctx) })
	if p.callers.tokens != nil {
		p.callers.tokens.load()
		g.Go(func() error { return watch.Tree(ctx, p.config.Tokens, p.callers.tokens.load) })
	}
	p.config.Logger.Info("control plane serves", "xds", p.Addr(), "status", p.StatusAddr(), "trust_domain", p.config.TrustDomain)
	return g.Wait()
}

func (p *Plane) serveGRPC(ctx context.Context, certificate *serverCertificate) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.authority.RootPEM())
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, GetCertificate: certificate.get, SessionTicketsDisabled: true,
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: roots,
		})),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(100), // of one connection
		grpc.MaxHeaderListSize(32<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: drainTime}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, &ads{delta: delta.NewServer(ctx, p.cache, p.nodes)})
	authpb.RegisterIstioCertificateServiceServer(s, &certificates{authority: p.authority, callers: p.callers, maxTTL: p.config.MaxTTL, logger: p.config.Logger})
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.Stop()
	})()
	err := s.Serve(netutil.LimitListener(p.listener, p.config.MaxConnections))
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return fmt.Errorf("serve xDS: %w", err)
}

// ads is the aggregated service; of its protocols only delta is offered.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	delta delta.Server
}

func (a *ads) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.delta.DeltaStreamHandler(s, resourcev3.AnyType)
}

func (p *Plane) serverNames() []string {
	names := []string{"istiod.istio-system.svc", "localhost"}
	if ns := p.config.RootNamespace; ns != "istio-system" {
		names = append(names, "istiod."+ns+".svc")
	}
	for _, name := range p.config.ServerNames {
		if _, err := netip.ParseAddr(name); err != nil {
			names = append(names, name)
		}
	}
	return names
}

func (p *Plane) serverAddresses() []netip.Addr {
	addresses := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, name := range p.config.ServerNames {
		if a, err := netip.ParseAddr(name); err == nil {
			addresses = append(addresses, a.Unmap())
		}
	}
	if a := p.Addr().Addr(); a.IsValid() && !a.IsUnspecified() && !slices.Contains(addresses, a) {
		addresses = append(addresses, a)
	}
	return addresses
}

// A serverCertificate renews itself when half of its life is over.
type serverCertificate struct {
	authority *authority.Authority
	names     []string
	addresses []netip.Addr

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	renew   time.Time
}

func (c *serverCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.current != nil && now.Before(c.renew) {
		return c.current, nil
	}
	issued, err := c.authority.IssueServer(c.names, c.addresses, serverTTL)
	if err != nil {
		return nil, fmt.Errorf("certify our own server: %w", err)
	}
	pair, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("certify our own server: %w", err)
	}
	c.current, c.renew = &pair, now.Add(pair.Leaf.NotAfter.Sub(now)/2)
	return c.current, nil
}
