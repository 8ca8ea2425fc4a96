package identity

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// advise adds to an error of a call what a person should look at, if the error
// is a usual one. It wraps err.
func (p *ControlPlane) advise(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unauthenticated:
		if p.TokenFile == "" {
			return fmt.Errorf("%w: no token was sent: configure a token file", err)
		}
		return fmt.Errorf("%w: the token in %s was not accepted: it must be the pod's own, not expired, with the audience that the CA asks for (istiod: istio-ca)", err, p.TokenFile)
	case codes.Unavailable, codes.DeadlineExceeded:
		if strings.Contains(s.Message(), "authentication handshake failed") {
			return fmt.Errorf("%w: its certificate must lead to the roots in %s and bear the name %q", err, p.rootsName(), p.Name())
		}
		return fmt.Errorf("%w: check the address, and that the CA is running and reachable", err)
	case codes.Unimplemented:
		return fmt.Errorf("%w: what answers there is no Istio CA: check the address", err)
	}
	return err
}

// rootsName is where the roots come from; PEM itself is not repeated.
func (p *ControlPlane) rootsName() string {
	if strings.Contains(p.RootCA, "-----BEGIN") {
		return "the configuration"
	}
	return p.RootCA
}

// Name is what the server's certificate must bear.
func (p *ControlPlane) Name() string {
	if p.ServerName != "" {
		return p.ServerName
	}
	host, _, _ := p.split() // it was validated
	return host
}

// adviseWorkload does the same for the Workload API.
func adviseWorkload(err error, want mesh.Principal) error {
	switch status.Code(err) {
	case codes.Unavailable:
		return fmt.Errorf("%w: check the address, that the SPIFFE agent runs and that its socket is mounted here", err)
	case codes.PermissionDenied:
		who := want.String()
		if want.IsZero() {
			who = "a SPIFFE ID"
		}
		return fmt.Errorf("%w: the agent knows no identity for this workload: register an entry with %s whose selectors match it", err, who)
	}
	return err
}
