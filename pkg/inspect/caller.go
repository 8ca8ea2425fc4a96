package inspect

import (
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// CallerHeader is the field that tells an app who calls it: the SPIFFE ID that the
// caller's certificate proved. It is absent if nobody proved anything.
const CallerHeader = "X-Forwarded-Client-Spiffe-Id"

// ClientCertHeader is Envoy's field for the same, in the form that Istio writes; see
// Conversation.ClientCert.
const ClientCertHeader = "X-Forwarded-Client-Cert"

// claims tells whether a field claims who the caller is or where it comes from, or
// changes which resource an app takes the request to be for. Such a field is not the
// caller's to write: it is removed from every request, on both sides. "_" in a name
// counts as "-", as it does for servers that hand headers on as variables.
func claims(name string) bool {
	switch lower(name[0]) {
	case 'x':
		if len(name) > 2 && dashed(name[1]) == '-' {
			return beginsWithOneOf(name, "x-forwarded-", "x-envoy-", "x-auth-request-", "x-ssl-", "x-client-cert", "x-original-", "x-remote-") ||
				isOneOf(name, "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-rewrite-url", "x-host", "x-http-host-override", "x-forwarded",
					"x-client-dn", "x-webauth-user", "x-user", "x-username", "x-authenticated-user")
		}
	case 'f':
		return isOneOf(name, "forwarded", "forwarded-for", "fastly-client-ip")
	case 'c':
		return isOneOf(name, "client-cert", "client-cert-chain", "client-ip", "cf-connecting-ip")
	case 'r':
		return isOneOf(name, "remote-user", "remote-addr", "remote-groups", "remote-name", "remote-email")
	case 's':
		return beginsWithOneOf(name, "ssl-client-")
	case 't':
		return isOneOf(name, "true-client-ip")
	case 'l':
		return isOneOf(name, "l5d-client-id", "l5d-remote-ip")
	}
	return false
}

func beginsWithOneOf(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if len(name) >= len(p) && isDashed(name[:len(p)], p) {
			return true
		}
	}
	return false
}

func isOneOf(name string, names ...string) bool {
	for _, n := range names {
		if len(name) == len(n) && isDashed(name, n) {
			return true
		}
	}
	return false
}

// isDashed tells whether name is lowered, which is of the same length, where "_"
// counts as "-".
func isDashed(name, lowered string) bool {
	for i := range len(lowered) {
		if dashed(name[i]) != lowered[i] {
			return false
		}
	}
	return true
}

func dashed(c byte) byte {
	if c == '_' {
		return '-'
	}
	return lower(c)
}

// introduce takes from a request what claims who the caller is, and tells the app who
// it is. A later hop tells it again: only the last one, inbound, writes.
func (s *server) introduce(r *Request) {
	keep := r.Header[:0]
	for _, f := range r.Header {
		if !claims(f.Name) {
			keep = append(keep, f)
		}
	}
	clear(r.Header[len(keep):])
	r.Header = keep
	if s.Conversation.Direction != policy.Inbound || s.caller == "" {
		return
	}
	r.Header.Add(CallerHeader, s.caller)
	if s.Conversation.ClientCert != "" {
		r.Header.Add(ClientCertHeader, s.Conversation.ClientCert)
	}
}

// ClientCert is a value of ClientCertHeader: who we are, the SHA-256 of the caller's
// certificate in hexadecimal digits, and who the caller is. Its form is that of a
// sidecar of Istio that sanitizes and sets, without the subject, which is empty there.
func ClientCert(by, hash, caller string) string {
	var b strings.Builder
	b.WriteString("By=")
	b.WriteString(by)
	b.WriteString(";Hash=")
	b.WriteString(hash)
	b.WriteString(`;Subject="";URI=`)
	b.WriteString(caller)
	return b.String()
}
