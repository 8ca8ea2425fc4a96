package control

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// ErrUnknownToken means that an authenticator does not know a token.
var ErrUnknownToken = errors.New("unknown token")

// An Authenticator says whose a token is. The error wraps ErrUnknownToken if
// another one may know it; any other error means that it could not tell.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (mesh.Principal, error)
}

// callers finds out who makes a call: by the client certificate that we signed,
// or by a token. Whoever shows both must be the same by both.
type callers struct {
	roots          []byte
	trustDomain    string
	tokens         *tokens // may be nil
	authenticators []Authenticator
}

var errWho = status.Error(codes.Unauthenticated, "authentication failure: no token or certificate that is known here")

func (c *callers) identify(ctx context.Context) (mesh.Principal, error) {
	byCertificate, err := certified(ctx)
	if err != nil {
		return mesh.Principal{}, errWho
	}
	token, given, err := bearer(ctx)
	if err != nil {
		return mesh.Principal{}, errWho
	}
	if !given {
		if byCertificate.IsZero() || byCertificate.TrustDomain() != c.trustDomain {
			return mesh.Principal{}, errWho
		}
		return byCertificate, nil
	}
	byToken, err := c.authenticate(ctx, token)
	if err != nil {
		return mesh.Principal{}, err
	}
	if byToken.TrustDomain() != c.trustDomain || !byCertificate.IsZero() && byCertificate != byToken {
		return mesh.Principal{}, errWho
	}
	return byToken, nil
}

func (c *callers) authenticate(ctx context.Context, token string) (mesh.Principal, error) {
	all := c.authenticators
	if c.tokens != nil {
		all = append([]Authenticator{c.tokens}, all...)
	}
	for _, a := range all {
		p, err := a.Authenticate(ctx, token)
		if err == nil && !p.IsZero() {
			return p, nil
		}
		if err != nil && !errors.Is(err, ErrUnknownToken) {
			return mesh.Principal{}, status.Error(codes.Unavailable, "tokens cannot be checked at the moment")
		}
	}
	return mesh.Principal{}, errWho
}

// bearer is the token of a call.
func bearer(ctx context.Context) (token string, given bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 0 {
		return "", false, nil
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if len(values) != 1 || !ok || token == "" {
		return "", true, errors.New("not one bearer token")
	}
	return token, true, nil
}

// certified is the principal of the client's certificate, which crypto/tls has
// verified against our own root; zero if there is none.
func certified(ctx context.Context) (mesh.Principal, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return mesh.Principal{}, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return mesh.Principal{}, nil
	}
	leaf := info.State.VerifiedChains[0][0]
	return leafPrincipal(leaf)
}

func leafPrincipal(leaf *x509.Certificate) (mesh.Principal, error) {
	if len(leaf.URIs) != 1 || leaf.IsCA {
		return mesh.Principal{}, errors.New("not a workload certificate")
	}
	return mesh.ParsePrincipal(leaf.URIs[0].String())
}
