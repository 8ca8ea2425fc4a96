package mesh

import (
	"errors"
	"fmt"
	"strings"
)

const (
	spiffeScheme = "spiffe://"
	maxSPIFFEID  = 2048
)

// ErrBadPrincipal means a string is not a SPIFFE ID that names a workload.
var ErrBadPrincipal = errors.New("not a workload SPIFFE ID")

// A Principal is an authenticated identity: a SPIFFE ID. It is comparable; the
// zero Principal means that nobody was authenticated.
type Principal struct {
	trustDomain string
	path        string // with its leading slash
}

// NewPrincipal is the identity Istio gives a Kubernetes service account:
// spiffe://trustDomain/ns/namespace/sa/serviceAccount. It does not validate.
func NewPrincipal(trustDomain, namespace, serviceAccount string) Principal {
	return Principal{trustDomain, "/ns/" + namespace + "/sa/" + serviceAccount}
}

// ParsePrincipal reads a SPIFFE ID as the SPIFFE-ID specification §2 defines
// it, byte for byte: lower-case trust domain, no port, no user, no query, no
// fragment, no escapes, no empty or dot segments, a path that is not empty, at
// most 2048 bytes.
func ParsePrincipal(id string) (Principal, error) {
	if len(id) > maxSPIFFEID {
		return Principal{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrBadPrincipal, len(id), maxSPIFFEID)
	}
	rest, ok := strings.CutPrefix(id, spiffeScheme)
	if !ok {
		return Principal{}, fmt.Errorf("%w: %q does not start with %q", ErrBadPrincipal, id, spiffeScheme)
	}
	domain, path, ok := strings.Cut(rest, "/")
	if !ok || path == "" {
		return Principal{}, fmt.Errorf("%w: %q has no path", ErrBadPrincipal, id)
	}
	if !validTrustDomain(domain) {
		return Principal{}, fmt.Errorf("%w: %q has a bad trust domain", ErrBadPrincipal, id)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if !validSegment(segment) {
			return Principal{}, fmt.Errorf("%w: %q has a bad path segment %q", ErrBadPrincipal, id, segment)
		}
	}
	return Principal{domain, "/" + path}, nil
}

func validTrustDomain(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

func validSegment(s string) bool {
	if s == "" || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// IsZero tells whether nobody was authenticated.
func (p Principal) IsZero() bool { return p == Principal{} }

// TrustDomain is the name of the authority that vouches for the principal.
func (p Principal) TrustDomain() string { return p.trustDomain }

// Path is the part after the trust domain, with its leading slash.
func (p Principal) Path() string { return p.path }

// Namespace is the Kubernetes namespace, or "" if the path is not /ns/x/sa/y.
func (p Principal) Namespace() string { ns, _ := p.kubernetes(); return ns }

// ServiceAccount is the Kubernetes service account, or "" if the path is not /ns/x/sa/y.
func (p Principal) ServiceAccount() string { _, sa := p.kubernetes(); return sa }

func (p Principal) kubernetes() (namespace, serviceAccount string) {
	rest, ok := strings.CutPrefix(p.path, "/ns/")
	if !ok {
		return "", ""
	}
	namespace, rest, ok = strings.Cut(rest, "/")
	if !ok {
		return "", ""
	}
	serviceAccount, ok = strings.CutPrefix(rest, "sa/")
	if !ok || strings.Contains(serviceAccount, "/") {
		return "", ""
	}
	return namespace, serviceAccount
}

// String is the SPIFFE ID, or "" for nobody.
func (p Principal) String() string {
	if p.IsZero() {
		return ""
	}
	return spiffeScheme + p.trustDomain + p.path
}

// WithoutScheme is the form Istio's authorization policies match on, as in
// "cluster.local/ns/a/sa/b"; "" for nobody.
func (p Principal) WithoutScheme() string { return p.trustDomain + p.path }
