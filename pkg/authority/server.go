package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// IssueServer makes a P-256 key and certifies it for a TLS server of the
// control plane under its DNS names and addresses. Such a certificate names no
// principal and authenticates no client: no workload takes it for a peer.
func (a *Authority) IssueServer(names []string, addresses []netip.Addr, ttl time.Duration) (*IssuedSVID, error) {
	if len(names)+len(addresses) == 0 {
		return nil, errors.New("a server certificate needs a name or an address")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	now := time.Now()
	notAfter := now.Add(ttl)
	if ttl <= 0 || !now.Before(a.root.NotAfter) {
		return nil, fmt.Errorf("%w: lifetime %v, and the root ends at %v", ErrBadRequest, ttl, a.root.NotAfter)
	}
	if notAfter.After(a.root.NotAfter) {
		notAfter = a.root.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-Backdate),
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              names,
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign server certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &IssuedSVID{CertPEM: certPEM, KeyPEM: keyPEM, RootPEM: a.RootPEM()}, nil
}
