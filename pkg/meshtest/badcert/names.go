package badcert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Names are certificates whose name is none, or is not one.
func Names() []Specimen {
	return []Specimen{
		{Name: "no SAN extension", Want: Name, Make: changed(func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = "x" })},
		{Name: "no names in the SAN extension", Want: Name, Make: san(SANValue())},
		{Name: "DNS name only", Want: Name, Make: san(SANValue(General(2, "planner.agents.svc")))},
		{Name: "SPIFFE ID as DNS name", Want: Name, Make: san(SANValue(General(2, PlannerID)))},
		{Name: "SPIFFE ID as e-mail name", Want: Name, Make: san(SANValue(General(1, PlannerID)))},
		{Name: "SPIFFE ID as registered ID", Want: Name, Make: san(SANValue(General(8, PlannerID)))},
		{Name: "SPIFFE ID as common name", Want: Name, Make: changed(func(c *x509.Certificate) { c.URIs = nil; c.Subject.CommonName = PlannerID })},
		{Name: "SPIFFE ID as DNS name beside another URI", Want: Name, Make: san(SANValue(General(2, PlannerID), General(URITag, "https://planner")))},
		{Name: "two SPIFFE IDs", Want: Name, Make: uri(PlannerID, "spiffe://cluster.local/ns/a/sa/b")},
		{Name: "two SPIFFE IDs of two trust domains", Want: Name, Make: uri(PlannerID, PartnerID)},
		{Name: "the same SPIFFE ID twice", Want: Name, Make: uri(PlannerID, PlannerID)},
		{Name: "another URI before the SPIFFE ID", Want: Name, Make: uri("https://example.com", PlannerID)},
		{Name: "another URI after the SPIFFE ID", Want: Name, Make: uri(PlannerID, "https://example.com")},
		{Name: "an empty URI after the SPIFFE ID", Want: Name, Make: uri(PlannerID, "")},
		{Name: "https URI", Want: Name, Make: uri("https://cluster.local/ns/agents/sa/planner")},
		{Name: "upper-case scheme", Want: Name, Make: uri("SPIFFE://cluster.local/ns/agents/sa/planner")},
		{Name: "mixed-case scheme", Want: Name, Make: uri("Spiffe://cluster.local/ns/agents/sa/planner")},
		{Name: "one slash", Want: Name, Make: uri("spiffe:/cluster.local/ns/agents/sa/planner")},
		{Name: "scheme only", Want: Name, Make: uri("spiffe:")},
		{Name: "without scheme", Want: Name, Make: uri("cluster.local/ns/agents/sa/planner")},
		{Name: "leading space", Want: Unparsed, Make: uri(" " + PlannerID)},
		{Name: "trailing newline", Want: Unparsed, Make: uri(PlannerID + "\n")},
		{Name: "upper-case trust domain", Want: Name, Make: spiffe("Cluster.Local/ns/agents/sa/planner")},
		{Name: "empty trust domain", Want: Name, Make: spiffe("/ns/agents/sa/planner")},
		{Name: "trust domain with a port", Want: Name, Make: spiffe("cluster.local:443/ns/agents/sa/planner")},
		{Name: "trust domain with an empty port", Want: Name, Make: spiffe("cluster.local:/ns/agents/sa/planner")},
		{Name: "trust domain with a user", Want: Name, Make: spiffe("me@cluster.local/ns/agents/sa/planner")},
		{Name: "trust domain with a trailing dot", Want: Unparsed, Make: spiffe("cluster.local./ns/agents/sa/planner")},
		{Name: "trust domain with an escape", Want: Unparsed, Make: spiffe("cluster%2elocal/ns/agents/sa/planner")},
		{Name: "IPv6 trust domain", Want: Name, Make: spiffe("[::1]/ns/agents/sa/planner")},
		{Name: "trust domain of 256 bytes", Want: Name, Make: spiffe(strings.Repeat("a", 256) + "/ns/agents/sa/planner")},
		{Name: "homoglyph in the trust domain", Want: Unparsed, Make: spiffe("сluster.local/ns/agents/sa/planner")},
		{Name: "no path", Want: Name, Make: spiffe("cluster.local")},
		{Name: "root path", Want: Name, Make: spiffe("cluster.local/")},
		{Name: "trailing slash", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/planner/")},
		{Name: "double slash", Want: Name, Make: spiffe("cluster.local/ns//agents/sa/planner")},
		{Name: "dot segment", Want: Name, Make: spiffe("cluster.local/ns/./agents/sa/planner")},
		{Name: "dot-dot segment", Want: Name, Make: spiffe("cluster.local/ns/x/../agents/sa/planner")},
		{Name: "escaped letter", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/pl%61nner")},
		{Name: "escaped slash", Want: Name, Make: spiffe("cluster.local/ns/agents%2Fsa/planner")},
		{Name: "query", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/planner?a=b")},
		{Name: "empty query", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/planner?")},
		{Name: "fragment", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/planner#x")},
		{Name: "empty fragment", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/planner#")},
		{Name: "NUL in the path", Want: Unparsed, Make: spiffe("cluster.local/ns/agents/sa/planner\x00.evil")},
		{Name: "space in the path", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/plan ner")},
		{Name: "letter that is not ASCII", Want: Unparsed, Make: spiffe("cluster.local/ns/agents/sa/plännër")},
		{Name: "back-slash in the path", Want: Name, Make: spiffe(`cluster.local/ns\agents/sa/planner`)},
		{Name: "wildcard", Want: Name, Make: spiffe("cluster.local/ns/agents/sa/*")},
		{Name: "over 2048 bytes", Want: Name, Make: spiffe("cluster.local/" + strings.Repeat("a", 2048))},
		{Name: "bytes after the SAN's end", Want: Name, Make: san(append(SANValue(General(URITag, PlannerID)), 0))},
		{Name: "SAN cut off", Want: Unparsed, Make: san(SANValue(General(URITag, PlannerID))[:20])},
		{Name: "SAN is not a sequence", Want: Unparsed, Make: san(General(URITag, PlannerID))},
		{Name: "URI in constructed encoding", Want: Name, Make: san(SANValue(must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: URITag, IsCompound: true, Bytes: []byte(PlannerID)}))))},
		{Name: "URI with a universal tag", Want: Name, Make: san(SANValue(must(asn1.Marshal(asn1.RawValue{Tag: URITag, Bytes: []byte(PlannerID)}))))},
	}
}

// General makes one GeneralName (RFC 5280 §4.2.1.6).
func General(tag int, value string) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}))
}

// SANValue is a SAN extension of general names.
func SANValue(names ...[]byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Join(names, nil)}))
}

// san is a leaf of root whose SAN extension is value.
func san(value []byte) func(*World) *tls.Certificate {
	return func(w *World) *tls.Certificate {
		return w.Root.Leaf(PlannerID, NewKey(), func(c *x509.Certificate) {
			c.URIs = nil
			c.ExtraExtensions = []pkix.Extension{{Id: subjectAltName, Critical: true, Value: value}}
		})
	}
}

func uri(names ...string) func(*World) *tls.Certificate {
	var all [][]byte
	for _, n := range names {
		all = append(all, General(URITag, n))
	}
	return san(SANValue(all...))
}

func spiffe(rest string) func(*World) *tls.Certificate { return uri("spiffe://" + rest) }
