package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

const (
	maxEntries = 64
	maxAnswer  = 1 << 20
)

// A caClient makes the call istio.v1.auth.IstioCertificateService/CreateCertificate.
type caClient struct {
	plane     ControlPlane
	principal mesh.Principal
	ttl       time.Duration
}

// fetch makes a key and has it certified. Each time it connects anew: calls
// are hours apart, the roots of the CA may have changed, and no channel's own
// back-off delays us. connect bounds the making of the connection.
func (c *caClient) fetch(ctx context.Context, connect time.Duration) (*SVID, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := c.plane.PerRPC().GetRequestMetadata(ctx); err != nil {
		return nil, err // now, and not wrapped in an error of gRPC's
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	csr, err := newCSR(key, c.principal)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(connect)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := authpb.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&authpb.IstioCertificateRequest{Csr: string(csr), ValidityDuration: int64(c.ttl / time.Second)})
	if err != nil {
		return nil, fmt.Errorf("ask CA %s for a certificate: %w", c.plane.Target(), c.plane.advise(err))
	}
	svid, err := readAnswer(answer.GetCertChain(), key, c.principal)
	if err != nil {
		return nil, fmt.Errorf("answer of CA %s: %w", c.plane.Target(), err)
	}
	return svid, nil
}

func (c *caClient) dial(connect time.Duration) (*grpc.ClientConn, error) {
	tls, err := c.plane.Credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(c.plane.Target(),
		grpc.WithTransportCredentials(tls),
		grpc.WithPerRPCCredentials(c.plane.PerRPC()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connect}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy()) // HTTPS_PROXY of the pod is for its app
	if err != nil {
		return nil, fmt.Errorf("connect to CA %s: %w", c.plane.Target(), err)
	}
	return conn, nil
}

// newCSR asks for p's name only: empty subject, one URI.
func newCSR(key *ecdsa.PrivateKey, p mesh.Principal) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		URIs: []*url.URL{{Scheme: "spiffe", Host: p.TrustDomain(), Path: p.Path()}},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// readAnswer takes the CA's answer, leaf first and the roots in the last entry,
// if it certifies our key for want and is valid now.
func readAnswer(entries []string, key *ecdsa.PrivateKey, want mesh.Principal) (*SVID, error) {
	if len(entries) < 2 || len(entries) > maxEntries {
		return nil, fmt.Errorf("it has %d entries, at least a leaf and the roots are needed and at most %d allowed", len(entries), maxEntries)
	}
	last := len(entries) - 1
	var chain [][]byte
	for _, entry := range entries[:last] {
		certs, err := parseCertificates([]byte(entry))
		if err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
		for _, cert := range certs {
			chain = append(chain, cert.Raw)
		}
	}
	roots, err := parseCertificates([]byte(entries[last]))
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	svid, err := newSVID(chain, key, roots)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(svid.Certificate.Leaf.PublicKey) {
		return nil, errors.New("the certificate is for another key than ours")
	}
	if err := svid.expect(want); err != nil {
		return nil, err
	}
	if err := svid.validNow(); err != nil {
		return nil, err
	}
	return svid, nil
}
