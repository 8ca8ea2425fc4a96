package badcert

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"
)

// Trust are certificates that lead nowhere, or elsewhere, or are revoked.
func Trust() []Specimen {
	return []Specimen{
		{Name: "self-signed", Want: Chain, Make: func(*World) *tls.Certificate {
			key := NewKey()
			c := leafTemplate(PlannerID)
			return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))}}
		}},
		{Name: "by an unknown root", Want: Chain, Make: by(PlannerID, func(w *World) *Issuer { return w.Stranger })},
		{Name: "by an unknown root that bears our root's name", Want: Chain, Make: by(PlannerID, func(w *World) *Issuer { return w.Twin })},
		{Name: "our name, by the partner's root", Want: Chain, Make: by(PlannerID, func(w *World) *Issuer { return w.Partner })},
		{Name: "the partner's name, by our root", Want: Chain, Make: by(PartnerID, func(w *World) *Issuer { return w.Root })},
		{Name: "the partner's name, by our intermediate", Want: Chain, Make: by(PartnerID, func(w *World) *Issuer { return w.Signing })},
		{Name: "an alias' name, by the partner's root", Want: Chain, Make: by(AliasID, func(w *World) *Issuer { return w.Partner })},
		{Name: "trust domain without roots", Want: TrustDomain, Make: by("spiffe://nowhere/ns/agents/sa/planner", func(w *World) *Issuer { return w.Root })},
		{Name: "sub-domain of ours", Want: TrustDomain, Make: by("spiffe://x.cluster.local/ns/agents/sa/planner", func(w *World) *Issuer { return w.Root })},
		{Name: "domain that begins like ours", Want: TrustDomain, Make: by("spiffe://cluster.local.evil/ns/agents/sa/planner", func(w *World) *Issuer { return w.Root })},
		{Name: "parent domain of ours", Want: TrustDomain, Make: by("spiffe://local/ns/agents/sa/planner", func(w *World) *Issuer { return w.Root })},
		{Name: "intermediate missing", Want: Chain, Make: func(w *World) *tls.Certificate {
			c := w.Signing.Leaf(PlannerID, NewKey(), nil)
			c.Certificate = c.Certificate[:1]
			return c
		}},
		{Name: "another intermediate of the same name", Want: Chain, Make: func(w *World) *tls.Certificate {
			c := w.Signing.Leaf(PlannerID, NewKey(), nil)
			c.Certificate[1] = w.Root.Intermediate("signing", nil).Cert.Raw
			return c
		}},
		{Name: "intermediate is not a CA", Want: Chain, Make: through(func(c *x509.Certificate) { c.IsCA = false })},
		{Name: "intermediate may not sign", Want: Chain, Make: through(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })},
		{Name: "intermediate without basic constraints", Want: Chain, Make: through(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false })},
		{Name: "intermediate expired", Want: Validity, Make: through(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{Name: "intermediate not valid yet", Want: Validity, Make: through(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Minute) })},
		{Name: "intermediate with an unknown critical extension", Want: Chain, Make: through(unknownCritical)},
		{Name: "intermediate for other uses", Want: Chain, Make: through(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
		{Name: "intermediate constrained to another domain", Want: Chain, Make: through(func(c *x509.Certificate) {
			c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{PartnerDomain}, true
		})},
		{Name: "intermediate below one that allows none", Want: Chain, Make: func(w *World) *tls.Certificate {
			last := w.Root.Intermediate("last", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
			return last.Intermediate("one more", nil).Leaf(PlannerID, NewKey(), nil)
		}},
		{Name: "workload's certificate as intermediate", Want: Chain, Make: func(w *World) *tls.Certificate {
			key := NewKey()
			c := w.Root.Leaf(ServerID, key, func(c *x509.Certificate) { c.Subject.CommonName = "workload" })
			workload := must(x509.ParseCertificate(c.Certificate[0]))
			rogue := &Issuer{Cert: workload, Key: key, Chain: []*x509.Certificate{workload}}
			return rogue.Leaf(PlannerID, NewKey(), nil)
		}},
		{Name: "eleven certificates", Want: Certificate, Make: func(w *World) *tls.Certificate {
			c := w.Root.Leaf(PlannerID, NewKey(), nil)
			for range 10 {
				c.Certificate = append(c.Certificate, w.Signing.Cert.Raw)
			}
			return c
		}},
		{Name: "the leaf behind an intermediate", Want: Name, Make: func(w *World) *tls.Certificate {
			c := w.Signing.Leaf(PlannerID, NewKey(), nil)
			return &tls.Certificate{PrivateKey: w.Signing.Key, Certificate: [][]byte{w.Signing.Cert.Raw, c.Certificate[0]}}
		}},
		{Name: "revoked", Want: Revoked, Make: func(w *World) *tls.Certificate { return w.Revoked }},
		{Name: "revoked by its intermediate", Want: Revoked, Make: func(w *World) *tls.Certificate { return w.RevokedBySigning }},
		{Name: "by a revoked intermediate", Want: Revoked, Make: by(PlannerID, func(w *World) *Issuer { return w.RevokedCA })},
	}
}

// by is a leaf with a given name by a given Issuer.
func by(id string, from func(*World) *Issuer) func(*World) *tls.Certificate {
	return func(w *World) *tls.Certificate { return from(w).Leaf(id, NewKey(), nil) }
}

// through is a good leaf of an intermediate that has one thing changed.
func through(change func(*x509.Certificate)) func(*World) *tls.Certificate {
	return func(w *World) *tls.Certificate {
		return w.Root.Intermediate("bad", change).Leaf(PlannerID, NewKey(), nil)
	}
}

func unknownCritical(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
}
