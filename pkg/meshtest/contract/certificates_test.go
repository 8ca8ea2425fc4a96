//go:build istiod

package contract

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

// csr makes a key and a request for names.
func (s *scene) csr(names []string) (crypto.Signer, string) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	return key, s.request(key, names)
}

func (s *scene) request(key crypto.Signer, names []string) string {
	s.Helper()
	template := &x509.CertificateRequest{}
	for _, name := range names {
		u, err := url.Parse(name)
		if err != nil {
			s.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		s.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// sign asks the CA.
func (s *scene) sign(d door, csr string, ttl time.Duration, metadata map[string]any) ([]string, error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	conn := s.dial(d)
	defer conn.Close()
	request := &authpb.IstioCertificateRequest{Csr: csr, ValidityDuration: int64(ttl / time.Second)}
	if metadata != nil {
		var err error
		if request.Metadata, err = structpb.NewStruct(metadata); err != nil {
			s.Fatal(err)
		}
	}
	answer, err := authpb.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, request)
	return answer.GetCertChain(), err
}

func (s *scene) chain(entries []string) (chain []*x509.Certificate) {
	s.Helper()
	for _, entry := range entries {
		for rest := []byte(entry); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				s.Fatal(err)
			}
			chain = append(chain, c)
		}
	}
	return chain
}

// certificateRequests is the matrix of what the CA signs and for whom.
func certificateRequests(s *scene) {
	planner := s.pod("planner")
	s.apply(planner.YAML(), s.pod("other").YAML())
	d := s.admitted(planner)
	spiffe := "spiffe://cluster.local/ns/" + s.namespace + "/sa/"
	_, empty := s.csr(nil)
	_, own := s.csr([]string{spiffe + "planner"})
	_, others := s.csr([]string{spiffe + "other"})
	renewing := d
	renewing.perRPC, renewing.credentials = nil, s.certificate(d)
	for _, tt := range []struct {
		name     string
		door     door
		csr      string
		ttl      time.Duration
		metadata map[string]any
		want     codes.Code
	}{
		{"a request that names nobody", d, empty, time.Hour, nil, codes.OK},
		{"one that names ourselves", d, own, time.Hour, nil, codes.OK},
		{"one that names another is signed for ourselves", d, others, time.Hour, nil, codes.OK},
		{"renewal by certificate", renewing, own, time.Hour, nil, codes.OK},
		{"no lifetime in particular", d, own, 0, nil, codes.OK},
		{"ninety days", d, own, 2160 * time.Hour, nil, codes.OK},
		{"more than ninety days", d, own, 2161 * time.Hour, nil, codes.InvalidArgument},
		{"nobody's request", s.door(""), own, time.Hour, nil, codes.Unauthenticated},
		{"impersonation", d, own, time.Hour, map[string]any{"ImpersonatedIdentity": spiffe + "other"}, codes.Unauthenticated},
		{"what is no request", d, "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", time.Hour, nil, codes.InvalidArgument},
		{"what is no PEM", d, "please", time.Hour, nil, codes.InvalidArgument},
		{"nothing", d, "", time.Hour, nil, codes.InvalidArgument},
	} {
		entries, err := s.sign(tt.door, tt.csr, tt.ttl, tt.metadata)
		if status.Code(err) != tt.want {
			s.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			s.checkChain(tt.name, entries, spiffe+"planner", tt.ttl)
		}
	}
}

// checkChain: the leaf first, for one identity; the root last.
func (s *scene) checkChain(name string, entries []string, want string, ttl time.Duration) {
	s.Helper()
	chain := s.chain(entries)
	if len(entries) < 2 || len(chain) < 2 {
		s.Errorf("%s: %d entries, %d certificates", name, len(entries), len(chain))
		return
	}
	leaf, root := chain[0], chain[len(chain)-1]
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != want || leaf.IsCA {
		s.Errorf("%s: for %v, want %s", name, leaf.URIs, want)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); ttl > 0 && (life < ttl || life > ttl+5*time.Minute) {
		s.Errorf("%s: lives for %v, %v was asked for", name, life, ttl)
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		s.Errorf("%s: usages %v", name, leaf.ExtKeyUsage)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		s.Errorf("%s: %v", name, err)
	}
}

// identityClient gets a certificate as the sidecar does, and renews it.
func identityClient(s *scene) {
	planner := s.pod("planner")
	s.apply(planner.YAML())
	d := s.admitted(planner)
	principal := mesh.NewPrincipal("cluster.local", s.namespace, "planner")
	ca, err := identity.NewCA(identity.CAConfig{ControlPlane: d.plane, Principal: principal, TTL: 6 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- ca.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	}()
	var first *identity.SVID
	s.eventually("a certificate", func() bool { first, err = ca.SVID(); return err == nil })
	if first.Principal != principal {
		s.Errorf("issued for %v", first.Principal)
	}
	s.eventually("another certificate", func() bool {
		next, err := ca.SVID()
		return err == nil && next.NotAfter.After(first.NotAfter)
	})
}
