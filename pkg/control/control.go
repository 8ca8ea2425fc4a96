// Package control is the istiod-like control plane: it serves workloads, L4
// authorizations and agent policies by delta xDS from YAML files that it
// watches, and signs certificates for workloads that prove who they are. It
// never decides about traffic: what it serves, the sidecars enforce.
package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/discovery"
)

// The types that are served.
const (
	AddressType       = discovery.AddressType
	AuthorizationType = discovery.AuthorizationType
	AgentPolicyType   = discovery.AgentPolicyType
)

// Config says what to serve and where. Fields that name a flag are meant to be set by people.
type Config struct {
	Listen string   // --listen: xDS and CA over TLS; "" means 127.0.0.1:15012
	Status string   // --status-listen: HTTP with /healthz/ready and /status; "" means 127.0.0.1:15014
	Paths  []string // --config-path: YAML files, or directories of them; at least one

	CADir       string // --ca-dir: holds the authority, made if there is none; required
	Tokens      string // --tokens: directory of <namespace>/<service account> files, each holding that workload's token
	TrustDomain string // --trust-domain; "" means cluster.local, or the authority's if there is one

	ServerNames   []string      // --server-name: DNS names and addresses in the server's certificate, beside istiod.istio-system.svc, localhost and loopback
	RootNamespace string        // --root-namespace: where mesh-wide policies live; "" means istio-system
	ClusterID     string        // --cluster-id: part of workload UIDs; "" means Kubernetes
	MaxTTL        time.Duration // --max-certificate-ttl: longer requests are shortened; 0 means 24h

	// Authenticators are asked in order, after Tokens, for who presents a token.
	Authenticators []Authenticator
	Logger         *slog.Logger // nil: discards

	MaxConnections int // at once; 0 means 10,000
}

func (c *Config) complete() error {
	if len(c.Paths) == 0 {
		return errors.New("control: no path of configuration; set --config-path")
	}
	if c.CADir == "" {
		return errors.New("control: no directory for the authority; set --ca-dir")
	}
	if c.Tokens == "" && len(c.Authenticators) == 0 {
		return errors.New("control: nothing to authenticate workloads by; set --tokens")
	}
	if c.MaxTTL < 0 || c.MaxTTL > authority.MaxTTL {
		return fmt.Errorf("control: --max-certificate-ttl %v is not within 0 and %v", c.MaxTTL, authority.MaxTTL)
	}
	setDefault(&c.Listen, "127.0.0.1:15012")
	setDefault(&c.Status, "127.0.0.1:15014")
	setDefault(&c.RootNamespace, "istio-system")
	setDefault(&c.ClusterID, "Kubernetes")
	setDefault(&c.MaxTTL, 24*time.Hour)
	setDefault(&c.MaxConnections, 10_000)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A Plane is a control plane.
type Plane struct {
	config    Config
	authority *authority.Authority
	source    *source
	cache     *cache
	callers   *callers
	nodes     *nodes

	listener, status net.Listener
}

// New loads or makes the authority and listens, so that a taken port is an
// error here. Run must be called, or Close.
func New(c Config) (*Plane, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	a, err := OpenAuthority(c.CADir, c.TrustDomain)
	if err != nil {
		return nil, err
	}
	c.TrustDomain = a.TrustDomain()
	p := &Plane{config: c, authority: a, cache: newCache(c.RootNamespace), nodes: newNodes(c.MaxConnections)}
	p.source = &source{config: &p.config, cache: p.cache, files: map[string]*file{}, now: time.Now}
	p.callers = &callers{roots: a.RootPEM(), trustDomain: a.TrustDomain(), authenticators: c.Authenticators}
	if c.Tokens != "" {
		p.callers.tokens = &tokens{dir: c.Tokens, trustDomain: a.TrustDomain(), logger: c.Logger}
	}
	if p.listener, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, fmt.Errorf("listen for xDS: %w; choose another address with --listen", err)
	}
	if p.status, err = net.Listen("tcp", c.Status); err != nil {
		p.listener.Close()
		return nil, fmt.Errorf("listen for status: %w; choose another address with --status-listen", err)
	}
	return p, nil
}

// Close frees the listeners of a plane that is not to be run.
func (p *Plane) Close() error { return errors.Join(p.listener.Close(), p.status.Close()) }

// Addr is where xDS and the CA listen.
func (p *Plane) Addr() netip.AddrPort { return addrPort(p.listener) }

// StatusAddr is where the status listens.
func (p *Plane) StatusAddr() netip.AddrPort { return addrPort(p.status) }

// RootPEM is the root certificate of the mesh.
func (p *Plane) RootPEM() []byte { return p.authority.RootPEM() }

func addrPort(ln net.Listener) netip.AddrPort {
	a, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// rootTTL is how long an authority that we make lives.
const rootTTL = 10 * 365 * 24 * time.Hour

// OpenAuthority loads the authority in dir, or makes one there for trustDomain
// ("" means cluster.local). An authority of another trust domain is an error.
func OpenAuthority(dir, trustDomain string) (*authority.Authority, error) {
	a, err := authority.Load(dir)
	if err == nil {
		if trustDomain != "" && trustDomain != a.TrustDomain() {
			return nil, fmt.Errorf("the authority in %s is of trust domain %q, not %q; choose another directory or trust domain", dir, a.TrustDomain(), trustDomain)
		}
		return a, nil
	}
	if !errors.Is(err, os.ErrNotExist) || exists(dir, authority.CertFile) || exists(dir, authority.KeyFile) {
		return nil, err // half an authority is not one to overwrite
	}
	setDefault(&trustDomain, "cluster.local")
	if a, err = authority.New(trustDomain, rootTTL); err != nil {
		return nil, err
	}
	return a, a.Save(dir)
}
