package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A world is a mesh with a federated partner, an alias, a CRL, and people who mean harm.
type world struct {
	mutual                        *Mutual
	root, partner, stranger, twin *issuer // twin bears root's name
	signing, revokedCA            *issuer // intermediates of root
	expected                      []mesh.Principal
	revoked, revokedBySigning     *tls.Certificate
}

const (
	alias     = "old.local"
	plannerID = "spiffe://cluster.local/ns/agents/sa/planner"
	partnerID = "spiffe://partner.example/ns/agents/sa/planner"
	aliasID   = "spiffe://old.local/ns/agents/sa/planner"
)

func newWorld(t testing.TB) *world {
	w := &world{
		root: newRoot("mesh", nil), partner: newRoot("partner", nil), stranger: newRoot("stranger", nil), twin: newRoot("mesh", nil),
		expected: []mesh.Principal{planner, must(mesh.ParsePrincipal(partnerID))},
	}
	w.signing, w.revokedCA = w.root.intermediate("signing", nil), w.root.intermediate("revoked CA", nil)
	w.revoked = w.root.leaf(plannerID, newKey(), nil)
	w.revokedBySigning = w.signing.leaf(plannerID, newKey(), nil)
	crls := [][]byte{
		w.stranger.crl(nil),
		w.root.crl(nil, must(x509.ParseCertificate(w.revoked.Certificate[0])), w.revokedCA.cert),
		w.signing.crl(nil, must(x509.ParseCertificate(w.revokedBySigning.Certificate[0]))),
	}
	path := filepath.Join(t.TempDir(), "crl.pem")
	do(t, os.WriteFile(path, crlPEM(crls...), 0o600))
	own := w.root.leaf(github.String(), newKey(), nil)
	leaf := must(x509.ParseCertificate(own.Certificate[0]))
	w.mutual = &Mutual{
		Source: NewMemory(&SVID{Principal: github, Certificate: own, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Bundles: map[string]*x509.CertPool{local: pool(w.root), remote: pool(w.partner)}}),
		Aliases: []string{alias},
		CRL:     must(NewCRL(CRLConfig{Path: path, Logger: quiet})),
	}
	return w
}

func crlPEM(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	return b.Bytes()
}

type roles int

const (
	both roles = iota
	asClient
	asServer
)

// unparsed is the want of what crypto/tls itself refuses: no reason of ours, but TLS_FAILURE.
const unparsed Reason = "TLS_FAILURE"

// A specimen is a certificate, by its maker, and what becomes of it.
type specimen struct {
	name string
	want Reason // "" if it is admitted
	make func(w *world) *tls.Certificate
	role roles
}

// general makes one GeneralName.
func general(tag int, value string) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}))
}

func sanValue(names ...[]byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Join(names, nil)}))
}

// san is a leaf of root whose SAN extension is value.
func san(value []byte) func(*world) *tls.Certificate {
	return func(w *world) *tls.Certificate {
		return w.root.leaf(plannerID, newKey(), func(c *x509.Certificate) {
			c.URIs = nil
			c.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Critical: true, Value: value}}
		})
	}
}

func uri(names ...string) func(*world) *tls.Certificate {
	var all [][]byte
	for _, n := range names {
		all = append(all, general(uriTag, n))
	}
	return san(sanValue(all...))
}

// changed is a leaf of root with one thing changed.
func changed(change func(*x509.Certificate)) func(*world) *tls.Certificate {
	return func(w *world) *tls.Certificate { return w.root.leaf(plannerID, newKey(), change) }
}

// by is a leaf with a given name by a given issuer.
func by(id string, from func(*world) *issuer) func(*world) *tls.Certificate {
	return func(w *world) *tls.Certificate { return from(w).leaf(id, newKey(), nil) }
}

// through is a good leaf of an intermediate that has one thing changed.
func through(change func(*x509.Certificate)) func(*world) *tls.Certificate {
	return func(w *world) *tls.Certificate {
		return w.root.intermediate("bad", change).leaf(plannerID, newKey(), nil)
	}
}

func withKey(key func() any) func(*world) *tls.Certificate {
	return func(w *world) *tls.Certificate { return w.root.leaf(plannerID, key(), nil) }
}

func unknownCritical(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
}

func spiffe(rest string) func(*world) *tls.Certificate { return uri("spiffe://" + rest) }

var badNames = []specimen{
	{name: "no SAN extension", want: ReasonName, make: changed(func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = "x" })},
	{name: "no names in the SAN extension", want: ReasonName, make: san(sanValue())},
	{name: "DNS name only", want: ReasonName, make: san(sanValue(general(2, "planner.agents.svc")))},
	{name: "SPIFFE ID as DNS name", want: ReasonName, make: san(sanValue(general(2, plannerID)))},
	{name: "SPIFFE ID as e-mail name", want: ReasonName, make: san(sanValue(general(1, plannerID)))},
	{name: "SPIFFE ID as registered ID", want: ReasonName, make: san(sanValue(general(8, plannerID)))},
	{name: "SPIFFE ID as common name", want: ReasonName, make: changed(func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = plannerID })},
	{name: "SPIFFE ID as DNS name beside another URI", want: ReasonName, make: san(sanValue(general(2, plannerID), general(uriTag, "https://planner")))},
	{name: "two SPIFFE IDs", want: ReasonName, make: uri(plannerID, "spiffe://cluster.local/ns/a/sa/b")},
	{name: "two SPIFFE IDs of two trust domains", want: ReasonName, make: uri(plannerID, partnerID)},
	{name: "the same SPIFFE ID twice", want: ReasonName, make: uri(plannerID, plannerID)},
	{name: "another URI before the SPIFFE ID", want: ReasonName, make: uri("https://example.com", plannerID)},
	{name: "another URI after the SPIFFE ID", want: ReasonName, make: uri(plannerID, "https://example.com")},
	{name: "an empty URI after the SPIFFE ID", want: ReasonName, make: uri(plannerID, "")},
	{name: "https URI", want: ReasonName, make: uri("https://cluster.local/ns/agents/sa/planner")},
	{name: "upper-case scheme", want: ReasonName, make: uri("SPIFFE://cluster.local/ns/agents/sa/planner")},
	{name: "mixed-case scheme", want: ReasonName, make: uri("Spiffe://cluster.local/ns/agents/sa/planner")},
	{name: "one slash", want: ReasonName, make: uri("spiffe:/cluster.local/ns/agents/sa/planner")},
	{name: "scheme only", want: ReasonName, make: uri("spiffe:")},
	{name: "without scheme", want: ReasonName, make: uri("cluster.local/ns/agents/sa/planner")},
	{name: "leading space", want: unparsed, make: uri(" " + plannerID)},
	{name: "trailing newline", want: unparsed, make: uri(plannerID + "\n")},
	{name: "upper-case trust domain", want: ReasonName, make: spiffe("Cluster.Local/ns/agents/sa/planner")},
	{name: "empty trust domain", want: ReasonName, make: spiffe("/ns/agents/sa/planner")},
	{name: "trust domain with a port", want: ReasonName, make: spiffe("cluster.local:443/ns/agents/sa/planner")},
	{name: "trust domain with an empty port", want: ReasonName, make: spiffe("cluster.local:/ns/agents/sa/planner")},
	{name: "trust domain with a user", want: ReasonName, make: spiffe("me@cluster.local/ns/agents/sa/planner")},
	{name: "trust domain with a trailing dot", want: unparsed, make: spiffe("cluster.local./ns/agents/sa/planner")},
	{name: "trust domain with an escape", want: unparsed, make: spiffe("cluster%2elocal/ns/agents/sa/planner")},
	{name: "IPv6 trust domain", want: ReasonName, make: spiffe("[::1]/ns/agents/sa/planner")},
	{name: "trust domain of 256 bytes", want: ReasonName, make: spiffe(strings.Repeat("a", 256) + "/ns/agents/sa/planner")},
	{name: "homoglyph in the trust domain", want: unparsed, make: spiffe("сluster.local/ns/agents/sa/planner")},
	{name: "no path", want: ReasonName, make: spiffe("cluster.local")},
	{name: "root path", want: ReasonName, make: spiffe("cluster.local/")},
	{name: "trailing slash", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/planner/")},
	{name: "double slash", want: ReasonName, make: spiffe("cluster.local/ns//agents/sa/planner")},
	{name: "dot segment", want: ReasonName, make: spiffe("cluster.local/ns/./agents/sa/planner")},
	{name: "dot-dot segment", want: ReasonName, make: spiffe("cluster.local/ns/x/../agents/sa/planner")},
	{name: "escaped letter", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/pl%61nner")},
	{name: "escaped slash", want: ReasonName, make: spiffe("cluster.local/ns/agents%2Fsa/planner")},
	{name: "query", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/planner?a=b")},
	{name: "empty query", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/planner?")},
	{name: "fragment", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/planner#x")},
	{name: "empty fragment", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/planner#")},
	{name: "NUL in the path", want: unparsed, make: spiffe("cluster.local/ns/agents/sa/planner\x00.evil")},
	{name: "space in the path", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/plan ner")},
	{name: "letter that is not ASCII", want: unparsed, make: spiffe("cluster.local/ns/agents/sa/plännër")},
	{name: "back-slash in the path", want: ReasonName, make: spiffe(`cluster.local/ns\agents/sa/planner`)},
	{name: "wildcard", want: ReasonName, make: spiffe("cluster.local/ns/agents/sa/*")},
	{name: "over 2048 bytes", want: ReasonName, make: spiffe("cluster.local/" + strings.Repeat("a", 2048))},
	{name: "bytes after the SAN's end", want: ReasonName, make: san(append(sanValue(general(uriTag, plannerID)), 0))},
	{name: "SAN cut off", want: unparsed, make: san(sanValue(general(uriTag, plannerID))[:20])},
	{name: "SAN is not a sequence", want: unparsed, make: san(general(uriTag, plannerID))},
	{name: "URI in constructed encoding", want: ReasonName, make: san(sanValue(must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: uriTag, IsCompound: true, Bytes: []byte(plannerID)}))))},
	{name: "URI with a universal tag", want: ReasonName, make: san(sanValue(must(asn1.Marshal(asn1.RawValue{Tag: uriTag, Bytes: []byte(plannerID)}))))},
}

var badTrust = []specimen{
	{name: "self-signed", want: ReasonChain, make: func(*world) *tls.Certificate {
		key := newKey()
		c := leafTemplate(plannerID)
		return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))}}
	}},
	{name: "by an unknown root", want: ReasonChain, make: by(plannerID, func(w *world) *issuer { return w.stranger })},
	{name: "by an unknown root that bears our root's name", want: ReasonChain, make: by(plannerID, func(w *world) *issuer { return w.twin })},
	{name: "our name, by the partner's root", want: ReasonChain, make: by(plannerID, func(w *world) *issuer { return w.partner })},
	{name: "the partner's name, by our root", want: ReasonChain, make: by(partnerID, func(w *world) *issuer { return w.root })},
	{name: "the partner's name, by our intermediate", want: ReasonChain, make: by(partnerID, func(w *world) *issuer { return w.signing })},
	{name: "an alias' name, by the partner's root", want: ReasonChain, make: by(aliasID, func(w *world) *issuer { return w.partner })},
	{name: "trust domain without roots", want: ReasonTrustDomain, make: by("spiffe://nowhere/ns/agents/sa/planner", func(w *world) *issuer { return w.root })},
	{name: "sub-domain of ours", want: ReasonTrustDomain, make: by("spiffe://x.cluster.local/ns/agents/sa/planner", func(w *world) *issuer { return w.root })},
	{name: "domain that begins like ours", want: ReasonTrustDomain, make: by("spiffe://cluster.local.evil/ns/agents/sa/planner", func(w *world) *issuer { return w.root })},
	{name: "parent domain of ours", want: ReasonTrustDomain, make: by("spiffe://local/ns/agents/sa/planner", func(w *world) *issuer { return w.root })},
	{name: "intermediate missing", want: ReasonChain, make: func(w *world) *tls.Certificate {
		c := w.signing.leaf(plannerID, newKey(), nil)
		c.Certificate = c.Certificate[:1]
		return c
	}},
	{name: "another intermediate of the same name", want: ReasonChain, make: func(w *world) *tls.Certificate {
		c := w.signing.leaf(plannerID, newKey(), nil)
		c.Certificate[1] = w.root.intermediate("signing", nil).cert.Raw
		return c
	}},
	{name: "intermediate is not a CA", want: ReasonChain, make: through(func(c *x509.Certificate) { c.IsCA = false })},
	{name: "intermediate may not sign", want: ReasonChain, make: through(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })},
	{name: "intermediate without basic constraints", want: ReasonChain, make: through(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false })},
	{name: "intermediate expired", want: ReasonValidity, make: through(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
	{name: "intermediate not valid yet", want: ReasonValidity, make: through(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Minute) })},
	{name: "intermediate with an unknown critical extension", want: ReasonChain, make: through(unknownCritical)},
	{name: "intermediate for other uses", want: ReasonChain, make: through(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
	{name: "intermediate constrained to another domain", want: ReasonChain, make: through(func(c *x509.Certificate) {
		c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{remote}, true
	})},
	{name: "intermediate below one that allows none", want: ReasonChain, make: func(w *world) *tls.Certificate {
		last := w.root.intermediate("last", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
		return last.intermediate("one more", nil).leaf(plannerID, newKey(), nil)
	}},
	{name: "workload's certificate as intermediate", want: ReasonChain, make: func(w *world) *tls.Certificate {
		key := newKey()
		c := w.root.leaf(github.String(), key, func(c *x509.Certificate) { c.Subject.CommonName = "workload" })
		workload := must(x509.ParseCertificate(c.Certificate[0]))
		rogue := &issuer{cert: workload, key: key, chain: []*x509.Certificate{workload}}
		return rogue.leaf(plannerID, newKey(), nil)
	}},
	{name: "eleven certificates", want: ReasonCertificate, make: func(w *world) *tls.Certificate {
		c := w.root.leaf(plannerID, newKey(), nil)
		for range maxChain {
			c.Certificate = append(c.Certificate, w.signing.cert.Raw)
		}
		return c
	}},
	{name: "the leaf behind an intermediate", want: ReasonName, make: func(w *world) *tls.Certificate {
		c := w.signing.leaf(plannerID, newKey(), nil)
		return &tls.Certificate{PrivateKey: w.signing.key, Certificate: [][]byte{w.signing.cert.Raw, c.Certificate[0]}}
	}},
	{name: "revoked", want: ReasonRevoked, make: func(w *world) *tls.Certificate { return w.revoked }},
	{name: "revoked by its intermediate", want: ReasonRevoked, make: func(w *world) *tls.Certificate { return w.revokedBySigning }},
	{name: "by a revoked intermediate", want: ReasonRevoked, make: by(plannerID, func(w *world) *issuer { return w.revokedCA })},
}

var badLeaf = []specimen{
	{name: "is a CA", want: ReasonCertificate, make: changed(func(c *x509.Certificate) { c.IsCA = true })},
	{name: "is our root", want: ReasonName, make: func(w *world) *tls.Certificate {
		return &tls.Certificate{PrivateKey: w.root.key, Certificate: [][]byte{w.root.cert.Raw}}
	}},
	{name: "is an intermediate with a workload's name", want: ReasonCertificate, make: func(w *world) *tls.Certificate {
		i := w.root.intermediate("x", func(c *x509.Certificate) { c.URIs = []*url.URL{must(url.Parse(plannerID))} })
		return &tls.Certificate{PrivateKey: i.key, Certificate: [][]byte{i.cert.Raw}}
	}},
	{name: "may sign certificates", want: ReasonCertificate, make: changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })},
	{name: "may sign CRLs", want: ReasonCertificate, make: changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign })},
	{name: "may not sign handshakes", want: ReasonCertificate, make: changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
	{name: "for code signing", want: ReasonChain, make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
	{name: "for servers only, used by a client", want: ReasonChain, role: asClient, make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
	{name: "for clients only, used by a server", want: ReasonChain, role: asServer, make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
	{name: "unknown critical extension", want: ReasonChain, make: changed(unknownCritical)},
	{name: "ended a second ago", want: ReasonValidity, make: changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
	{name: "ended yesterday", want: ReasonValidity, make: changed(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})},
	{name: "begins in two minutes", want: ReasonValidity, make: changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Minute) })},
	{name: "ends before it begins", want: ReasonValidity, make: changed(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = c.NotAfter, c.NotBefore })},
	{name: "begins within the skew and ended already", want: ReasonValidity, make: changed(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(30*time.Second), time.Now().Add(-time.Second)
	})},
	{name: "ends within the skew before it is valid", want: ReasonValidity, make: changed(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(30*time.Second), time.Now().Add(50*time.Second)
	})},
	{name: "RSA key of 1024 bits", want: ReasonCertificate, make: withKey(func() any { return must(rsa.GenerateKey(rand.Reader, 1024)) })},
	{name: "P-224 key, of a client", want: ReasonCertificate, role: asClient, make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) })},
	{name: "P-224 key, of a server", want: unparsed, role: asServer, make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) })},
	{name: "somebody else's, without its key", want: unparsed, make: func(w *world) *tls.Certificate {
		c := w.root.leaf(plannerID, newKey(), nil)
		c.PrivateKey = newKey()
		return c
	}},
	{name: "signature changed", want: ReasonChain, make: func(w *world) *tls.Certificate {
		c := w.root.leaf(plannerID, newKey(), nil)
		c.Certificate[0][len(c.Certificate[0])-1] ^= 1
		return c
	}},
	{name: "name changed after signing", want: ReasonChain, make: func(w *world) *tls.Certificate {
		c := w.root.leaf("spiffe://cluster.local/ns/agents/sa/plannez", newKey(), nil)
		c.Certificate[0] = bytes.Replace(c.Certificate[0], []byte("plannez"), []byte("planner"), 1)
		return c
	}},
	{name: "bytes after the certificate", want: unparsed, make: func(w *world) *tls.Certificate {
		c := w.root.leaf(plannerID, newKey(), nil)
		c.Certificate[0] = append(c.Certificate[0], 0)
		return c
	}},
	{name: "not a certificate", want: unparsed, make: func(*world) *tls.Certificate {
		return &tls.Certificate{PrivateKey: newKey(), Certificate: [][]byte{[]byte("hello")}}
	}},
	{name: "the namesake in another namespace", want: ReasonUnexpected, role: asServer, make: spiffe("cluster.local/ns/agent/sa/planner")},
	{name: "a longer service account", want: ReasonUnexpected, role: asServer, make: spiffe("cluster.local/ns/agents/sa/planner2")},
	{name: "the expected name as a prefix of the path", want: ReasonUnexpected, role: asServer, make: spiffe("cluster.local/ns/agents/sa/planner/x")},
}

var goodCerts = []specimen{
	{name: "as it should be", make: changed(nil)},
	{name: "by an intermediate", make: by(plannerID, func(w *world) *issuer { return w.signing })},
	{name: "with the root sent along", make: func(w *world) *tls.Certificate {
		c := w.root.leaf(plannerID, newKey(), nil)
		c.Certificate = append(c.Certificate, w.root.cert.Raw)
		return c
	}},
	{name: "of the federated partner", make: by(partnerID, func(w *world) *issuer { return w.partner })},
	{name: "of an alias of our trust domain", make: by(aliasID, func(w *world) *issuer { return w.root })},
	{name: "with DNS names besides", make: changed(func(c *x509.Certificate) { c.DNSNames = []string{"planner", "other.example"} })},
	{name: "with a common name besides", make: changed(func(c *x509.Certificate) { c.Subject.CommonName = "spiffe://cluster.local/ns/x/sa/admin" })},
	{name: "without key usages", make: changed(func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil })},
	{name: "begins in half a minute", make: changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Second) })},
	{name: "RSA key of 2048 bits", make: withKey(func() any { return must(rsa.GenerateKey(rand.Reader, 2048)) })},
	{name: "Ed25519 key", make: withKey(func() any { _, k, err := ed25519.GenerateKey(rand.Reader); return crypto.Signer(must(k, err)) })},
	{name: "P-384 key", make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })},
	{name: "serial that a namesake issuer revoked", make: func(w *world) *tls.Certificate {
		revoked := must(x509.ParseCertificate(w.revoked.Certificate[0]))
		return w.partner.leaf(partnerID, newKey(), func(c *x509.Certificate) { c.SerialNumber = revoked.SerialNumber })
	}},
}

// TestBadCertificates lets each specimen try to pass as a client and as a
// server, twice: what was refused must not be admitted by being remembered.
func TestBadCertificates(t *testing.T) {
	w := newWorld(t)
	bad := 0
	for _, table := range [][]specimen{badNames, badTrust, badLeaf, goodCerts} {
		for _, s := range table {
			if s.want != "" {
				bad++
			}
			t.Run(s.name, func(t *testing.T) {
				cert := s.make(w)
				for range 2 {
					if s.role != asServer {
						s.judge(t, "as client", meetClient(t, w, cert))
					}
					if s.role != asClient {
						s.judge(t, "as server", meetServer(t, w, cert))
					}
				}
			})
		}
	}
	if bad < 60 {
		t.Errorf("only %d bad certificates were tried", bad)
	}
	t.Logf("%d bad certificates", bad)
}

func (s *specimen) judge(t *testing.T, role string, err error) {
	t.Helper()
	got := reason(err)
	if got == "" && err != nil {
		got = Reason(Flag(err))
	}
	if got != s.want {
		t.Errorf("%s: %q, want %q: %v", role, got, s.want, err)
	}
	flag := map[Reason]string{"": "", unparsed: "TLS_FAILURE", ReasonRevoked: "CERT_REVOKED"}
	want, ok := flag[s.want]
	if !ok {
		want = "IDENTITY_ERROR"
	}
	if Flag(err) != want {
		t.Errorf("%s: flag %s, want %s", role, Flag(err), want)
	}
}

// stock is a crypto/tls peer that shows cert and checks nothing.
func stock(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
}

func meetClient(t *testing.T, w *world, cert *tls.Certificate) error {
	near, far := socketPair(t)
	done := make(chan struct{})
	go func() { defer close(done); tls.Client(near, stock(cert)).HandshakeContext(t.Context()) }()
	conn, err := w.mutual.Server(t.Context(), far)
	<-done
	return recheck(t, w, conn, err)
}

func meetServer(t *testing.T, w *world, cert *tls.Certificate) error {
	near, far := socketPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := net.Conn(far)
		if tls.Server(c, stock(cert)).HandshakeContext(t.Context()) != nil {
			c.Close() // it cannot show that certificate at all
		}
	}()
	conn, err := w.mutual.Client(t.Context(), near, w.expected)
	<-done
	return recheck(t, w, conn, err)
}

// recheck: who is admitted by a handshake is admitted by Recheck.
func recheck(t *testing.T, w *world, conn *Conn, err error) error {
	t.Helper()
	if err == nil {
		do(t, w.mutual.Recheck(&conn.Peer))
	}
	return err
}
