// Package badcert makes certificates that a careful peer refuses, each with one
// defect that its name tells, beside some that it must admit.
package badcert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
)

// The names in a World.
const (
	Domain        = "cluster.local"
	PartnerDomain = "partner.example" // federated
	Alias         = "old.local"       // another name of Domain

	PlannerID = "spiffe://cluster.local/ns/agents/sa/planner"
	ServerID  = "spiffe://cluster.local/ns/tools/sa/github"
	PartnerID = "spiffe://partner.example/ns/agents/sa/planner"
	AliasID   = "spiffe://old.local/ns/agents/sa/planner"
)

// Why a Specimen is refused: the reasons of package identity, and Unparsed for
// what crypto/tls itself refuses.
const (
	Name        = "name"
	TrustDomain = "trust-domain"
	Chain       = "chain"
	Validity    = "validity"
	Revoked     = "revoked"
	Certificate = "certificate"
	Unexpected  = "unexpected"
	Unparsed    = "TLS_FAILURE"
)

// URITag is the context tag of a URI among general names.
const URITag = 6

// Role is in which role a Specimen has its defect.
type Role int

// The roles.
const (
	Both Role = iota
	AsClient
	AsServer
)

// A Specimen is a certificate, by its maker, and what becomes of it where
// PlannerID or PartnerID is expected.
type Specimen struct {
	Name string // says the defect
	Want string // why it is refused; "" if it is admitted
	Make func(w *World) *tls.Certificate
	Role Role
}

// A World is the issuers of a mesh with a federated partner, and of people who mean harm.
type World struct {
	Root, Partner, Stranger, Twin *Issuer // Twin bears Root's name
	Signing, RevokedCA            *Issuer // intermediates of Root
	Revoked, RevokedBySigning     *tls.Certificate
}

// NewWorld makes the issuers.
func NewWorld() *World {
	w := &World{Root: NewRoot("mesh", nil), Partner: NewRoot("partner", nil), Stranger: NewRoot("stranger", nil), Twin: NewRoot("mesh", nil)}
	w.Signing, w.RevokedCA = w.Root.Intermediate("signing", nil), w.Root.Intermediate("revoked CA", nil)
	w.Revoked = w.Root.Leaf(PlannerID, NewKey(), nil)
	w.RevokedBySigning = w.Signing.Leaf(PlannerID, NewKey(), nil)
	return w
}

// CRLs are the lists that revoke what a World calls revoked, in PEM.
func (w *World) CRLs() []byte {
	return CRLPEM(
		w.Stranger.CRL(nil),
		w.Root.CRL(nil, must(x509.ParseCertificate(w.Revoked.Certificate[0])), w.RevokedCA.Cert),
		w.Signing.CRL(nil, must(x509.ParseCertificate(w.RevokedBySigning.Certificate[0]))),
	)
}

// CRLPEM is CRLs in PEM.
func CRLPEM(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	return b.Bytes()
}

// Stock is a crypto/tls peer that shows cert and checks nothing.
func Stock(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
}

// must is for what cannot fail unless this package is wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
