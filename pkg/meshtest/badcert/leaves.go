package badcert

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
	"net/url"
	"time"
)

// Leaves are certificates of the wrong kind, at the wrong time, or changed.
func Leaves() []Specimen {
	return []Specimen{
		{Name: "is a CA", Want: Certificate, Make: changed(func(c *x509.Certificate) { c.IsCA = true })},
		{Name: "is our root", Want: Name, Make: func(w *World) *tls.Certificate {
			return &tls.Certificate{PrivateKey: w.Root.Key, Certificate: [][]byte{w.Root.Cert.Raw}}
		}},
		{Name: "is an intermediate with a workload's name", Want: Certificate, Make: func(w *World) *tls.Certificate {
			i := w.Root.Intermediate("x", func(c *x509.Certificate) { c.URIs = []*url.URL{must(url.Parse(PlannerID))} })
			return &tls.Certificate{PrivateKey: i.Key, Certificate: [][]byte{i.Cert.Raw}}
		}},
		{Name: "may sign certificates", Want: Certificate, Make: changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })},
		{Name: "may sign CRLs", Want: Certificate, Make: changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign })},
		{Name: "may not sign handshakes", Want: Certificate, Make: changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		{Name: "for code signing", Want: Chain, Make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
		{Name: "for servers only, used by a client", Want: Chain, Role: AsClient, Make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{Name: "for clients only, used by a server", Want: Chain, Role: AsServer, Make: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{Name: "unknown critical extension", Want: Chain, Make: changed(unknownCritical)},
		{Name: "ended a second ago", Want: Validity, Make: changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{Name: "ended yesterday", Want: Validity, Make: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		})},
		{Name: "begins in two minutes", Want: Validity, Make: changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Minute) })},
		{Name: "ends before it begins", Want: Validity, Make: changed(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = c.NotAfter, c.NotBefore })},
		{Name: "begins within the skew and ended already", Want: Validity, Make: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(30*time.Second), time.Now().Add(-time.Second)
		})},
		{Name: "ends within the skew before it is valid", Want: Validity, Make: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(30*time.Second), time.Now().Add(50*time.Second)
		})},
		{Name: "RSA key of 1024 bits", Want: Certificate, Make: withKey(func() any { return must(rsa.GenerateKey(rand.Reader, 1024)) })},
		{Name: "P-224 key, of a client", Want: Certificate, Role: AsClient, Make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) })},
		{Name: "P-224 key, of a server", Want: Unparsed, Role: AsServer, Make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) })},
		{Name: "somebody else's, without its key", Want: Unparsed, Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf(PlannerID, NewKey(), nil)
			c.PrivateKey = NewKey()
			return c
		}},
		{Name: "signature changed", Want: Chain, Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf(PlannerID, NewKey(), nil)
			c.Certificate[0][len(c.Certificate[0])-1] ^= 1
			return c
		}},
		{Name: "name changed after signing", Want: Chain, Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf("spiffe://cluster.local/ns/agents/sa/plannez", NewKey(), nil)
			c.Certificate[0] = bytes.Replace(c.Certificate[0], []byte("plannez"), []byte("planner"), 1)
			return c
		}},
		{Name: "bytes after the certificate", Want: Unparsed, Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf(PlannerID, NewKey(), nil)
			c.Certificate[0] = append(c.Certificate[0], 0)
			return c
		}},
		{Name: "not a certificate", Want: Unparsed, Make: func(*World) *tls.Certificate {
			return &tls.Certificate{PrivateKey: NewKey(), Certificate: [][]byte{[]byte("hello")}}
		}},
		{Name: "the namesake in another namespace", Want: Unexpected, Role: AsServer, Make: spiffe("cluster.local/ns/agent/sa/planner")},
		{Name: "a longer service account", Want: Unexpected, Role: AsServer, Make: spiffe("cluster.local/ns/agents/sa/planner2")},
		{Name: "the expected name as a prefix of the path", Want: Unexpected, Role: AsServer, Make: spiffe("cluster.local/ns/agents/sa/planner/x")},
	}
}

// Good are certificates that must be admitted.
func Good() []Specimen {
	return []Specimen{
		{Name: "as it should be", Make: changed(nil)},
		{Name: "by an intermediate", Make: by(PlannerID, func(w *World) *Issuer { return w.Signing })},
		{Name: "with the root sent along", Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf(PlannerID, NewKey(), nil)
			c.Certificate = append(c.Certificate, w.Root.Cert.Raw)
			return c
		}},
		{Name: "of the federated partner", Make: by(PartnerID, func(w *World) *Issuer { return w.Partner })},
		{Name: "of an alias of our trust domain", Make: by(AliasID, func(w *World) *Issuer { return w.Root })},
		{Name: "with DNS names besides", Make: changed(func(c *x509.Certificate) { c.DNSNames = []string{"planner", "other.example"} })},
		{Name: "with a common name besides", Make: changed(func(c *x509.Certificate) { c.Subject.CommonName = "spiffe://cluster.local/ns/x/sa/admin" })},
		{Name: "without key usages", Make: changed(func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = 0, nil })},
		{Name: "begins in half a minute", Make: changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Second) })},
		{Name: "RSA key of 2048 bits", Make: withKey(func() any { return must(rsa.GenerateKey(rand.Reader, 2048)) })},
		{Name: "Ed25519 key", Make: withKey(func() any { _, k, err := ed25519.GenerateKey(rand.Reader); return crypto.Signer(must(k, err)) })},
		{Name: "P-384 key", Make: withKey(func() any { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })},
		{Name: "serial that a namesake Issuer revoked", Make: func(w *World) *tls.Certificate {
			revoked := must(x509.ParseCertificate(w.Revoked.Certificate[0]))
			return w.Partner.Leaf(PartnerID, NewKey(), func(c *x509.Certificate) { c.SerialNumber = revoked.SerialNumber })
		}},
	}
}

// changed is a leaf of root with one thing changed.
func changed(change func(*x509.Certificate)) func(*World) *tls.Certificate {
	return func(w *World) *tls.Certificate { return w.Root.Leaf(PlannerID, NewKey(), change) }
}

func withKey(key func() any) func(*World) *tls.Certificate {
	return func(w *World) *tls.Certificate { return w.Root.Leaf(PlannerID, key(), nil) }
}
