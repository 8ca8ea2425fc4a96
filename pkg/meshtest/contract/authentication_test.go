//go:build istiod

package contract

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

// open asks for all addresses and answers how that went.
func (s *scene) open(d door, node *corev3.Node) error {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	conn := s.dial(d)
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: addressType}); err != nil {
		s.Log(err) // the reason is what Recv says
	}
	_, err = stream.Recv()
	return err
}

// admitted waits until a token is taken: a control plane may learn of it late.
func (s *scene) admitted(pod istiod.Pod) door {
	s.Helper()
	d := s.door(s.token(pod.ServiceAccount))
	s.eventually("the token of "+pod.ServiceAccount+" is accepted", func() bool { return s.open(d, node("sidecar", pod)) == nil })
	return d
}

// authentication is the matrix of who may open a stream, and as whom.
func authentication(s *scene) {
	planner := s.pod("planner")
	s.apply(planner.YAML(), s.pod("other").YAML())
	good := s.admitted(planner)
	withCertificate := good
	withCertificate.perRPC = nil
	withCertificate.credentials = s.certificate(good)
	ourselves, silent := node("sidecar", planner), node("sidecar", planner)
	elsewhere, other := planner, planner
	elsewhere.Namespace, other.ServiceAccount = "elsewhere", "other"
	delete(silent.Metadata.Fields, "SERVICE_ACCOUNT")
	for _, tt := range []struct {
		name string
		door door
		node *corev3.Node
		want codes.Code
	}{
		{"a token", good, ourselves, codes.OK},
		{"a token, as a ztunnel", good, node("ztunnel", planner), codes.OK},
		{"a token, without naming the account", good, silent, codes.OK},
		{"a client certificate instead", withCertificate, ourselves, codes.OK},
		{"nothing", s.door(""), ourselves, codes.Unauthenticated},
		{"no token at all", s.door(s.written("not.a.token-that-anybody-has-made")), ourselves, codes.Unauthenticated},
		{"a token for another audience", s.door(s.foreignToken("planner")), ourselves, codes.Unauthenticated},
		{"in the name of another namespace", good, node("sidecar", elsewhere), codes.PermissionDenied},
		{"in the name of another account", good, node("sidecar", other), codes.PermissionDenied},
		{"a certificate, in the name of another namespace", withCertificate, node("sidecar", elsewhere), codes.PermissionDenied},
	} {
		if err := s.open(tt.door, tt.node); status.Code(err) != tt.want {
			s.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for name, id := range map[string]string{
		"three parts": "sidecar~10.0.0.1~planner." + s.namespace, "no address": "sidecar~~planner." + s.namespace + "~x", "no such kind": "pod~10.0.0.1~planner." + s.namespace + "~x",
	} {
		n := node("sidecar", planner)
		n.Id = id
		delete(n.Metadata.Fields, "INSTANCE_IPS")
		if err := s.open(good, n); err == nil {
			s.Errorf("node ID of %s: admitted", name)
		}
	}
}

// written is a file with a token.
func (s *scene) written(token string) string {
	path := filepath.Join(s.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// foreignToken is one of the account that is not meant for the control plane.
// A token of outrigger-control has no audience: there it is one of somebody unknown.
func (s *scene) foreignToken(account string) string {
	r, ok := s.tier.(realTier)
	if !ok {
		return s.written("0123456789abcdef0123456789abcdef0123456789abcdef")
	}
	token, err := r.Token(s.Context(), s.namespace, account, "somebody-else", "")
	if err != nil {
		s.Fatal(err)
	}
	return s.written(token)
}

// certificate answers credentials that prove who we are by a certificate that
// the control plane's CA has signed.
func (s *scene) certificate(d door) credentials.TransportCredentials {
	s.Helper()
	key, csr := s.csr(nil)
	answer, err := s.sign(d, csr, time.Hour, nil)
	if err != nil {
		s.Fatal(err)
	}
	pair := tls.Certificate{PrivateKey: key}
	for _, c := range s.chain(answer) {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	pair.Certificate = pair.Certificate[:1]
	root, err := os.ReadFile(d.plane.RootCA)
	if err != nil {
		s.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	return credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: d.plane.ServerName, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
}

// serverName is about whom we talk to: only names that the certificate bears, by the mesh's root.
func serverName(s *scene) {
	planner := s.pod("planner")
	s.apply(planner.YAML())
	d := s.admitted(planner)
	for name, want := range map[string]codes.Code{
		istiod.ServerName: codes.OK, "localhost": codes.OK, "istiod.elsewhere.svc": codes.Unavailable, "example.com": codes.Unavailable,
	} {
		plane := d.plane
		plane.ServerName = name
		if err := s.open(tlsDoor(plane), node("sidecar", planner)); status.Code(err) != want {
			s.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	foreign, err := authority.New("cluster.local", time.Hour)
	if err != nil {
		s.Fatal(err)
	}
	plane := d.plane
	plane.RootCA = s.written(string(foreign.RootPEM()))
	if err := s.open(tlsDoor(plane), node("sidecar", planner)); status.Code(err) != codes.Unavailable {
		s.Errorf("by another root: %v", err)
	}
}
