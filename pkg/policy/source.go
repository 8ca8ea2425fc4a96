package policy

import (
	"errors"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A source selects callers. It matches whoever matches any entry.
type source struct {
	principals []mesh.Principal
	below      []spiffeBelow
	accounts   []ServiceAccount // Name "*": the whole namespace
}

// A spiffeBelow matches every principal below a path.
type spiffeBelow struct {
	trustDomain string
	prefix      string // of the path, with its trailing slash
}

// matches tells whether caller is selected; trustDomain is that of the
// workload the policy governs.
func (s *source) matches(caller mesh.Principal, trustDomain string) bool {
	if s == nil {
		return true
	}
	if caller.IsZero() {
		return false
	}
	for _, p := range s.principals {
		if p == caller {
			return true
		}
	}
	for _, b := range s.below {
		if b.matches(caller) {
			return true
		}
	}
	if len(s.accounts) == 0 || caller.TrustDomain() != trustDomain {
		return false
	}
	namespace, name := caller.Namespace(), caller.ServiceAccount()
	for _, a := range s.accounts {
		if a.Namespace == namespace && (a.Name == name || a.Name == "*") {
			return true
		}
	}
	return false
}

func (b spiffeBelow) matches(p mesh.Principal) bool {
	return p.TrustDomain() == b.trustDomain && len(p.Path()) > len(b.prefix) && strings.HasPrefix(p.Path(), b.prefix)
}

var (
	errSPIFFEScheme = errors.New(`does not begin with "spiffe://"`)
	errSPIFFEStar   = errors.New(`has a '*' that is not a whole last segment`)
)

// addSPIFFE adds a SPIFFE ID, or a pattern that ends in "/*".
func (s *source) addSPIFFE(text string) error {
	if !strings.HasPrefix(text, "spiffe://") {
		return errSPIFFEScheme
	}
	parent, below := strings.CutSuffix(text, "/*")
	if strings.Contains(parent, "*") {
		return errSPIFFEStar
	}
	if !below {
		p, err := mesh.ParsePrincipal(text)
		s.principals = append(s.principals, p)
		return err
	}
	// The star is a segment: with any name in its place it must be a SPIFFE ID.
	p, err := mesh.ParsePrincipal(parent + "/x")
	s.below = append(s.below, spiffeBelow{p.TrustDomain(), strings.TrimSuffix(p.Path(), "x")})
	return err
}

// keys are what one of must be true of a caller that the source matches; none
// if that cannot be said.
func (s *source) keys(trustDomain string) []key {
	if s == nil || len(s.below) > 0 {
		return nil
	}
	var keys []key
	for _, p := range s.principals {
		keys = append(keys, principalKey(p))
	}
	for _, a := range s.accounts {
		if a.Name == "*" {
			keys = append(keys, key{kind: keyNamespace, a: a.Namespace})
		} else {
			keys = append(keys, principalKey(mesh.NewPrincipal(trustDomain, a.Namespace, a.Name)))
		}
	}
	return keys
}
