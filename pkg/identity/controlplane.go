package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
)

const (
	systemRoots = "SYSTEM"
	maxToken    = 64 << 10
)

// A ControlPlane is a gRPC server of the mesh (CA, xDS) and how we and it prove
// ourselves to each other: it by a TLS certificate, we by a bearer token.
type ControlPlane struct {
	Address    string            // host:port, or https://host:port
	RootCA     string            // path of a PEM file, PEM itself, or "SYSTEM"
	ServerName string            // that its certificate must bear; "" means Address's host
	TokenFile  string            // read anew for each call; "" means no token
	Headers    map[string]string // sent with each call
}

func (p *ControlPlane) validate() error {
	if p.RootCA == "" {
		return errors.New("control plane: RootCA is required: a path, PEM, or SYSTEM")
	}
	_, _, err := p.split()
	return err
}

func (p *ControlPlane) split() (host, port string, err error) {
	address := strings.TrimPrefix(p.Address, "https://")
	if host, port, err = net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return "", "", fmt.Errorf("control plane: address %q is not host:port or https://host:port", p.Address)
	}
	return host, port, nil
}

// Target is the address as gRPC takes it.
func (p *ControlPlane) Target() string { return strings.TrimPrefix(p.Address, "https://") }

// Credentials reads the roots and answers the TLS credentials to connect with.
func (p *ControlPlane) Credentials() (credentials.TransportCredentials, error) {
	if _, _, err := p.split(); err != nil {
		return nil, err
	}
	roots, err := p.roots()
	if err != nil {
		return nil, fmt.Errorf("control plane: read its roots: %w: mount them there in PEM, as istiod's ConfigMap istio-ca-root-cert has them", err)
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: p.Name(), MinVersion: tls.VersionTLS12}), nil
}

func (p *ControlPlane) roots() (*x509.CertPool, error) {
	switch {
	case p.RootCA == systemRoots:
		return nil, nil // crypto/tls then takes the system's
	case strings.Contains(p.RootCA, "-----BEGIN"):
		roots, err := parseCertificates([]byte(p.RootCA))
		if err != nil {
			return nil, err
		}
		return newPool(roots)
	}
	return readPool(p.RootCA)
}

// PerRPC are the credentials of each call: the headers and, if there is a
// token file, "authorization: Bearer" with what it holds at the moment.
func (p *ControlPlane) PerRPC() credentials.PerRPCCredentials {
	return perRPC{p.TokenFile, maps.Clone(p.Headers)}
}

type perRPC struct {
	tokenFile string
	headers   map[string]string
}

func (c perRPC) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	md := make(map[string]string, len(c.headers)+1)
	for k, v := range c.headers {
		md[strings.ToLower(k)] = v
	}
	if c.tokenFile == "" {
		return md, nil
	}
	data, err := readFile(c.tokenFile, maxToken)
	if err != nil {
		return nil, fmt.Errorf("read token: %w: mount the pod's service account token there, with the audience that the CA asks for (istiod: istio-ca)", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("read token: %s does not hold one token: write it there, alone", c.tokenFile)
	}
	md["authorization"] = "Bearer " + token
	return md, nil
}

// RequireTransportSecurity keeps a token from ever crossing the wire in clear.
func (perRPC) RequireTransportSecurity() bool { return true }
