package control

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	authpb "github.com/outrigger-mesh/outrigger/proto/istio/v1/auth"
)

// certificates is Istio's CA service. The identity is the caller's, whatever
// the CSR asks for; nobody is signed for in the name of another.
type certificates struct {
	authpb.UnimplementedIstioCertificateServiceServer
	authority *authority.Authority
	callers   *callers
	maxTTL    time.Duration
	logger    *slog.Logger
}

// CreateCertificate signs for the caller. A lifetime beyond the bound is cut
// to it, none means the bound, and one beyond what any CA of a mesh signs for is
// refused, as istiod does.
func (c *certificates) CreateCertificate(ctx context.Context, r *authpb.IstioCertificateRequest) (*authpb.IstioCertificateResponse, error) {
	principal, err := c.callers.identify(ctx)
	if err != nil {
		return nil, err
	}
	if r.GetMetadata().GetFields()["ImpersonatedIdentity"].GetStringValue() != "" {
		return nil, status.Error(codes.Unauthenticated, "authentication failure: nobody may impersonate another here")
	}
	ttl := c.maxTTL
	if seconds := r.GetValidityDuration(); seconds < 0 || seconds > int64(authority.MaxTTL/time.Second) {
		return nil, status.Errorf(codes.InvalidArgument, "validity_duration is not within 0 and %v", authority.MaxTTL)
	} else if seconds > 0 && seconds < int64(ttl/time.Second) {
		ttl = time.Duration(seconds) * time.Second
	}
	chain, err := c.authority.Sign([]byte(r.GetCsr()), principal, ttl)
	switch {
	case errors.Is(err, authority.ErrBadRequest):
		return nil, status.Error(codes.InvalidArgument, printable(err.Error(), 512))
	case errors.Is(err, authority.ErrForeignPrincipal):
		return nil, status.Error(codes.PermissionDenied, "the identity is not of this trust domain")
	case err != nil:
		c.logger.Error("sign certificate", "principal", principal, "error", err)
		return nil, status.Error(codes.Internal, "signing did not work")
	}
	response := &authpb.IstioCertificateResponse{}
	for _, certificate := range chain {
		response.CertChain = append(response.CertChain, string(certificate))
	}
	response.CertChain = append(response.CertChain, string(c.authority.RootPEM()))
	c.logger.Info("signed certificate", "principal", principal, "ttl", ttl)
	return response, nil
}
