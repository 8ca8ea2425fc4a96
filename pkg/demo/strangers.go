package demo

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const foreignDomain = "elsewhere.example"

// foreigner dials the server's sidecar as somebody who trusts our mesh, and
// whom our mesh has no reason to trust: same namespace, same service account,
// another trust domain.
func (m *stage) foreigner(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	who := mesh.NewPrincipal(foreignDomain, m.agents[0].namespace, m.agents[0].account)
	svid, err := m.foreignSVID(who)
	if err != nil {
		return "", err
	}
	dialer, err := hbone.NewDialer(hbone.DialerConfig{Mutual: &identity.Mutual{Source: identity.NewMemory(svid)}})
	if err != nil {
		return "", err
	}
	defer dialer.Close()
	hop := mesh.Hop{Authority: m.server.at(int(m.serverPort)), Expected: []mesh.Principal{mesh.NewPrincipal(trustDomain, m.server.namespace, m.server.account)}}
	if err := hop.Address.UnmarshalText([]byte(m.server.at(m.config.HBONEPort))); err != nil {
		return "", err
	}
	tunnel, err := dialer.Dial(ctx, hop, hbone.Header{})
	if err == nil {
		tunnel.Close()
		return "", fmt.Errorf("%s was admitted", who)
	}
	if ctx.Err() != nil {
		return "", err
	}
	line, findErr := m.eventually(ctx, func() (string, error) { return findAccess(m.accessLog(m.server), foreignDomain, "refused") })
	if findErr != nil {
		return "", fmt.Errorf("access log of the refusal: %w", findErr)
	}
	return fmt.Sprintf("%s: %v\naccess: %s", who, err, line), nil
}

func (m *stage) foreignSVID(who mesh.Principal) (*identity.SVID, error) {
	foreign, err := authority.New(foreignDomain, rootLifetime)
	if err != nil {
		return nil, err
	}
	issued, err := foreign.Issue(who, time.Hour)
	if err != nil {
		return nil, err
	}
	svid, err := identity.ParseSVID(issued.CertPEM, issued.KeyPEM, issued.RootPEM)
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(m.file("root-cert.pem"))
	if err != nil {
		return nil, err
	}
	ours := x509.NewCertPool()
	if !ours.AppendCertsFromPEM(root) {
		return nil, fmt.Errorf("no certificate in %s", m.file("root-cert.pem"))
	}
	svid.Bundles[trustDomain] = ours
	return svid, nil
}

// plainClient sends HTTP to the server's sidecar as somebody who knows nothing
// of tunnels, on both of its inbound ports. Not a byte of HTTP may come back.
func (m *stage) plainClient(ctx context.Context) (string, error) {
	seen := ""
	for _, port := range []int{m.config.HBONEPort, plainPort} {
		address := m.server.at(port)
		answer, err := plainRequest(ctx, address)
		if bytes.Contains(answer, []byte("HTTP/")) {
			return "", fmt.Errorf("%s answered a plain client %q", address, answer)
		}
		if err == nil {
			err = errors.New("closed")
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return "", fmt.Errorf("%s keeps a plain client waiting: %w", address, err)
		}
		if seen != "" {
			seen += "\n"
		}
		seen += fmt.Sprintf("%s: %v after %d bytes, none of them HTTP", address, err, len(answer))
	}
	return seen, nil
}

func plainRequest(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(stepTimeout))
	if _, err := io.WriteString(c, "POST /mcp HTTP/1.1\r\nHost: github\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(c, 4096))
}
