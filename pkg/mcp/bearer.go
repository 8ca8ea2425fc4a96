package mcp

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/token"
)

// authenticate validates the bearer token where policies ask for one (MCP,
// "Authorization"; RFC 6750). A token that is not valid here, or that the server is
// not to have, does not go on.
func (e *exchange) authenticate(ctx context.Context) *refusal {
	rules := e.terms.Tokens
	if rules == nil {
		return nil
	}
	h := &e.x.Request.Header
	if hasQueryToken(e.x.Request.RawQuery) {
		return &refusal{status: 400, code: codeInvalidRequest, problem: "a token in the query is not accepted: use the Authorization header"}
	}
	raw, present := token.Bearer(h.Get("Authorization"))
	reason := "the Authorization header has no bearer token"
	switch {
	case present:
		valid, err := e.validate(ctx, raw)
		if errors.Is(err, token.ErrNoKeys) {
			return &refusal{status: 503, code: codeRefused, problem: "the token cannot be validated now", cause: err.Error(),
				header: inspect.Header{{Name: "Retry-After", Value: "5"}}}
		}
		if err == nil {
			e.token = valid
			if rules.Strip {
				h.Del("Authorization")
			}
			return nil
		}
		reason = "the token is not valid: " + token.Reason(err)
	case !h.Has("Authorization") && rules.Optional:
		return nil
	case !h.Has("Authorization"):
		return e.challenge(401, "", "a bearer token is needed", nil)
	}
	if !rules.Drop {
		return e.challenge(401, "invalid_token", reason, nil)
	}
	h.Del("Authorization")
	if !rules.Optional {
		return e.challenge(401, "", "a bearer token is needed", nil)
	}
	return nil
}

func (e *exchange) validate(ctx context.Context, raw string) (*token.Token, error) {
	if e.config.Tokens == nil {
		return nil, token.ErrNoKeys
	}
	return e.config.Tokens.Verify(ctx, raw, e.terms.Tokens)
}

// hasQueryToken tells whether a query has an access token (RFC 6750 §2.3), which
// logs would keep.
func hasQueryToken(query string) bool {
	if query == "" {
		return false
	}
	for name := range parameterNames(query) {
		if plain, err := url.QueryUnescape(name); err != nil || strings.EqualFold(plain, "access_token") {
			return true
		}
	}
	return false
}

// challenge is a refusal that tells how to get a token that would do: RFC 6750 §3,
// RFC 9728 §5.1. Without scopes those that the policy lists are asked for.
func (e *exchange) challenge(status int, fault, problem string, scopes []string) *refusal {
	rules := e.terms.Tokens
	var b strings.Builder
	b.WriteString("Bearer")
	add := func(name, value string) {
		if value == "" {
			return
		}
		if b.Len() > len("Bearer") {
			b.WriteByte(',')
		}
		b.WriteString(" " + name + `="` + value + `"`)
	}
	add("error", fault)
	if fault != "" {
		add("error_description", problem)
	}
	add("resource_metadata", metadataURL(rules.Resource))
	if len(scopes) == 0 {
		scopes = rules.Scopes
	}
	add("scope", strings.Join(scopes, " "))
	return &refusal{status: status, code: codeRefused, problem: problem, header: inspect.Header{{Name: "WWW-Authenticate", Value: b.String()}}}
}

// askForScopes is the answer to a call for which the caller's token lacks nothing
// but scopes: unlike other denials it says so, or nobody could step up.
func (e *exchange) askForScopes(c *call) *inspect.Response {
	asked := e.challenge(403, "insufficient_scope", "the token lacks a scope", c.verdict.Scopes)
	if e.token == nil {
		asked = e.challenge(401, "", "a bearer token is needed", c.verdict.Scopes)
	}
	asked.id = c.id.Raw
	response := e.refusalResponse(*asked)
	c.record.Status, c.record.ErrorCode, c.record.ResponseBytes = asked.status, asked.code, response.ContentLength
	return response
}

// metadataURL is where the metadata of a resource is (RFC 9728 §3.1).
func metadataURL(resource string) string {
	scheme, rest, ok := strings.Cut(resource, "://")
	if !ok {
		return ""
	}
	host, path, _ := strings.Cut(rest, "/")
	if path != "" {
		path = "/" + path
	}
	return scheme + "://" + host + metadataPath + path
}

// protectedResource is the metadata that a policy has us tell of its resource
// (RFC 9728 §2); nil if it has not.
func (e *exchange) protectedResource() []byte {
	rules := e.terms.Tokens
	if rules == nil || rules.Resource == "" {
		return nil
	}
	b := append([]byte(`{"resource":`), quote(rules.Resource)...)
	b = append(b, `,"authorization_servers":[`...)
	seen := map[string]bool{}
	for _, issuer := range rules.Issuers {
		if seen[issuer.Name] {
			continue
		}
		if len(seen) > 0 {
			b = append(b, ',')
		}
		seen[issuer.Name] = true
		b = appendQuoted(b, issuer.Name)
	}
	b = append(b, ']')
	for i, scope := range rules.Scopes {
		if i == 0 {
			b = append(b, `,"scopes_supported":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendQuoted(b, scope)
		if i == len(rules.Scopes)-1 {
			b = append(b, ']')
		}
	}
	return append(b, `,"bearer_methods_supported":["header"]}`...)
}
