package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

const (
	maxIssuers = 16
	maxScopes  = 64
	maxKeys    = 64 << 10 // bytes of a key set in a policy
)

func (c *agentCompiler) terms(a *Agent) {
	a.filterLinked = c.spec.FilterLinked
	a.recording = c.recording(c.spec.RecordedArguments)
	a.tokens = c.tokens("spec.jwt", c.spec.Tokens)
}

func (c *agentCompiler) recording(s *AgentRecording) *Recording {
	if s == nil {
		return nil
	}
	const field = "spec.recordedArguments"
	if s.Form != RecordDigest && s.Form != RecordRedacted {
		c.add(field+".form", "write Digest or Redacted", "is not set")
	}
	if s.Form == RecordDigest && len(s.Reveal) > 0 {
		c.add(field+".reveal", "remove it, or write form: Redacted", "is of no use to a digest")
	}
	if len(s.Reveal) > maxArguments {
		c.add(field+".reveal", "reveal an object instead of each of its members", "has %d entries, at most %d are allowed", len(s.Reveal), maxArguments)
		return nil
	}
	r := &Recording{Digest: s.Form == RecordDigest}
	for i, text := range s.Reveal {
		path, err := parsePath(text)
		if err != nil {
			c.add(fmt.Sprintf("%s.reveal[%d]", field, i), `name an argument, such as "repository.owner"`, "%q %v", shorten(text), err)
		}
		r.Reveal = append(r.Reveal, path)
	}
	return r
}

func (c *agentCompiler) tokens(field string, t *Tokens) *Tokens {
	if t == nil {
		return nil
	}
	if n := len(t.Issuers); n == 0 || n > maxIssuers {
		c.add(field+".issuers", fmt.Sprintf("write 1 to %d", maxIssuers), "has %d entries", n)
	}
	for i := range t.Issuers {
		c.issuer(fmt.Sprintf("%s.issuers[%d]", field, i), &t.Issuers[i])
	}
	if t.Resource != "" {
		if u, err := url.Parse(t.Resource); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
			u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(t.Resource, "?#\"\\") || !isPrintable(t.Resource) {
			c.add(field+".resource", `write the server's URI, such as "https://github.tools.example/mcp"`, "%q is not an http or https URI without query and fragment", shorten(t.Resource))
		}
	}
	c.scopes(field+".scopesSupported", t.Scopes)
	return t
}

func (c *agentCompiler) issuer(field string, s *Issuer) {
	if s.Name == "" || len(s.Name) > maxGlob {
		c.add(field+".issuer", `write what the tokens have as "iss"`, "is empty or too long")
	}
	if n := len(s.Audiences); n == 0 || n > maxList {
		c.add(field+".audiences", "name whom the tokens must be for; without, a token for any other server would do", "has %d entries", n)
	}
	if slices.Contains(s.Audiences, "") {
		c.add(field+".audiences", "remove it", "has an empty entry")
	}
	for i, name := range s.Algorithms {
		if !slices.Contains(SignatureAlgorithms(), name) {
			c.add(fmt.Sprintf("%s.algorithms[%d]", field, i), "write one of "+strings.Join(SignatureAlgorithms(), ", "), "%q is not accepted", shorten(name))
		}
	}
	sources := 0
	if s.KeysURL != "" {
		sources++
		if !isKeysURL(s.KeysURL) {
			c.add(field+".jwksUri", "write an https URL", "%q is not an https URL, nor an http one of a loopback address", shorten(s.KeysURL))
		}
	}
	if s.KeysFile != "" {
		sources++
		if !path.IsAbs(s.KeysFile) || strings.Contains(s.KeysFile, "\x00") {
			c.add(field+".jwksFile", "write an absolute path", "%q is not an absolute path", shorten(s.KeysFile))
		}
	}
	if s.Keys != "" {
		sources++
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal([]byte(s.Keys), &set); err != nil || len(set.Keys) == 0 || len(s.Keys) > maxKeys {
			c.add(field+".jwks", `write {"keys": [...]} (RFC 7517)`, "is not a JSON Web Key Set")
		}
	}
	if sources != 1 {
		c.add(field, "set one of jwksUri, jwksFile and jwks", "has %d places of keys", sources)
	}
}

// isKeysURL accepts what keys may be fetched from: they are as good as the
// connection they come over.
func isKeysURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !isPrintable(text) {
		return false
	}
	if u.Scheme == "http" {
		address, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() == "localhost" || err == nil && address.IsLoopback()
	}
	return u.Scheme == "https"
}

// scopes accepts scope tokens as RFC 6749 §3.3 defines them.
func (c *agentCompiler) scopes(field string, list []string) {
	if len(list) > maxScopes {
		c.add(field, "use fewer scopes", "has %d entries, at most %d are allowed", len(list), maxScopes)
	}
	for i, s := range list {
		if s == "" || len(s) > maxGlob || !isPrintable(s) || strings.ContainsAny(s, `"\`) {
			c.add(fmt.Sprintf("%s[%d]", field, i), `write a scope such as "tools:write"`, "%q is not a scope", shorten(s))
		}
	}
}
