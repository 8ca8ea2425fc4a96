package policy

import (
	"slices"
	"strings"
)

// Terms are what policies say about a port besides who may do what on it. They
// do not change.
type Terms struct {
	Tokens       *Tokens    // nil: bearer tokens are not looked at
	Arguments    *Recording // nil: records keep nothing of arguments
	FilterLinked bool       // results lose resources that the caller may not read
}

// Tokens says which bearer tokens are accepted, and what becomes of them.
type Tokens struct {
	Issuers  []Issuer
	Optional bool     // a request without a token has no claims; otherwise it is refused
	Drop     bool     // a token that is not valid is taken away; otherwise the request is refused
	Strip    bool     // a valid token is taken away too
	Resource string   // canonical URI of the protected resource (RFC 9728); "": none is told
	Scopes   []string // that the resource's metadata lists
	Policies string   // "namespace/name" of those that say it, joined by commas
}

// An Issuer is an authorization server whose tokens are accepted. One of KeysURL,
// KeysFile and Keys says where its JSON Web Key Set is.
type Issuer struct {
	Name       string // the claim "iss"
	Audiences  []string
	Algorithms []string // none: all that SignatureAlgorithms lists
	KeysURL    string
	KeysFile   string
	Keys       string
}

// SignatureAlgorithms are those that a policy may accept: all with public keys.
func SignatureAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// A Recording is what records keep of arguments.
type Recording struct {
	Digest bool       // their SHA-256; otherwise their structure, without values
	Reveal [][]string // paths of values that are kept as they are
}

// Reveals tells whether the value at path is kept: path or one above it is listed.
func (r *Recording) Reveals(path []string) bool {
	for _, shown := range r.Reveal {
		if len(shown) <= len(path) && slices.Equal(shown, path[:len(shown)]) {
			return true
		}
	}
	return false
}

// Terms are those of a destination. nil Policies, and a destination that none
// governs, have zero ones.
func (p *Policies) Terms(d Direction, dst Destination) Terms {
	if p == nil {
		return Terms{}
	}
	a := p.agents(d)
	if a == nil {
		return Terms{}
	}
	if r := a.rules(d, &dst); r != nil {
		return r.terms
	}
	return Terms{}
}

// add adds what one policy says; the stricter wins.
func (t *Terms) add(a *Agent) {
	t.FilterLinked = t.FilterLinked || a.filterLinked
	if r := a.recording; r != nil && (t.Arguments == nil || r.Digest) {
		t.Arguments = r
	} else if r != nil && !t.Arguments.Digest {
		// Both may reveal: what only one of them reveals, the other wants hidden.
		t.Arguments = &Recording{Reveal: slices.DeleteFunc(slices.Clone(t.Arguments.Reveal), func(path []string) bool { return !r.Reveals(path) })}
	}
	if a.tokens == nil {
		return
	}
	if t.Tokens == nil {
		first := *a.tokens
		first.Policies = a.Key()
		t.Tokens = &first
		return
	}
	merged := *t.Tokens
	merged.Issuers = slices.Concat(merged.Issuers, a.tokens.Issuers)
	merged.Optional = merged.Optional && a.tokens.Optional
	merged.Drop = merged.Drop && a.tokens.Drop
	merged.Strip = merged.Strip || a.tokens.Strip
	if merged.Resource == "" {
		merged.Resource = a.tokens.Resource
	}
	merged.Scopes = slices.Concat(merged.Scopes, a.tokens.Scopes)
	slices.Sort(merged.Scopes)
	merged.Scopes = slices.Compact(merged.Scopes)
	merged.Policies += "," + a.Key()
	t.Tokens = &merged
}

// Scopes are the OAuth scopes of a token: the words of the claim "scope" (RFC 8693 §4.2), or of "scp", which
// some servers write instead.
func Scopes(claims map[string]any) []string {
	var out []string
	for _, name := range [...]string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			out = append(out, strings.Fields(v)...)
		case []any:
			for _, one := range v {
				if text, ok := one.(string); ok {
					out = append(out, text)
				}
			}
		}
	}
	return out
}

// hasScopes tells whether the caller's token has all the rule's scopes. In a list
// it is unknown where it has not: the caller could ask for more.
func (q *question) hasScopes(wanted []string) truth {
	if len(wanted) == 0 || q.scopesGranted {
		return yes
	}
	have := Scopes(q.call.Claims)
	for _, s := range wanted {
		if slices.Contains(have, s) {
			continue
		}
		if q.argumentsUnknown {
			return unknown
		}
		return no
	}
	return yes
}
