package mcp

import (
	"context"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const metadataPath = "/.well-known/oauth-protected-resource"

// isMetadata tells whether the request asks for the metadata of RFC 9728, by
// which clients learn who gives tokens for this server.
func (e *exchange) isMetadata() bool {
	r := e.x.Request
	if r.Method != "GET" || r.ContentLength != 0 || r.Header.Has(sessionHeader) {
		return false
	}
	rest, ok := strings.CutPrefix(r.Path, metadataPath)
	return ok && (rest == "" || rest[0] == '/') || e.locations.has(e.place(), r.Path)
}

// metadata answers with what policy says of the resource or else passes on a JSON
// document that everybody reads alike. Nobody needs a token to learn where to get one.
func (e *exchange) metadata(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	c := &call{name: "GET", method: &method{name: "GET"}, record: e.newRecord()}
	c.record.Method = "GET"
	e.calls = append(e.calls, c)
	suffix, wellKnown := strings.CutPrefix(e.x.Request.Path, metadataPath)
	if own := e.protectedResource(); own != nil && wellKnown && (suffix == "" || metadataURL(e.terms.Tokens.Resource) == metadataURL(origin(e.terms.Tokens.Resource)+suffix)) {
		c.record.Decision = policy.Decision{Allowed: true, Policy: e.terms.Tokens.Policies, Reason: "metadata of the protected resource, told to everybody"}
		c.record.Status, c.record.ResponseBytes = 200, int64(len(own))
		response := reply(200, "application/json", own)
		response.Header.Add("Cache-Control", "max-age=300")
		response.Header.Add("Access-Control-Allow-Origin", "*") // browsers ask from other origins
		return response, nil
	}
	c.verdict = e.ask(c, policy.Object{})
	if paths := e.x.Port.Paths; len(paths) > 0 && wellKnown && suffix != "" && !slices.Contains(paths, suffix) {
		c.verdict = policy.Decision{Reason: "not accepted: metadata of a path that the policy's port does not list"}
	}
	c.record.Decision = c.verdict
	if !c.verdict.Allowed || e.terms.Tokens != nil && e.terms.Tokens.Resource != "" {
		c.record.Status = 404
		return reply(404, "text/plain; charset=utf-8", []byte("Not Found\n")), nil
	}
	if e.terms.Tokens != nil {
		e.x.Request.Header.Del("Authorization") // it was not looked at
	}
	up, err := next.Do(ctx, e.x)
	if err != nil {
		return nil, err
	}
	c.record.Status = up.Status
	switch kind := media(up.Header.Get("Content-Type")); {
	case kind == "text/event-stream": // it would be a session's, and nobody was asked for a token
		return e.fail(up, "it is a stream where metadata was asked for"), nil
	case up.Body == nil || up.ContentLength == 0 || kind != "application/json":
		return e.respond(ctx, up)
	}
	problem := e.receiveHeader(up)
	if problem == "" {
		problem = e.receive(up, maxPlain)
		if problem == "" && jsonrpc.Check(e.in, jsonrpc.Limits{}) != nil {
			problem = "it is not JSON that everybody reads alike"
		}
		up.Body = nil
	}
	if problem != "" {
		return e.fail(up, problem), nil
	}
	c.record.ResponseBytes = int64(len(e.in))
	up.Body, up.ContentLength = newInMemory(e.in), int64(len(e.in))
	return up, nil
}

// origin is the resource without its path.
func origin(resource string) string {
	scheme, rest, _ := strings.Cut(resource, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}
