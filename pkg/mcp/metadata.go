package mcp

import (
	"bytes"
	"context"
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
	rest, ok := strings.CutPrefix(r.Path, metadataPath)
	return ok && (rest == "" || rest[0] == '/') && r.Method == "GET" && r.ContentLength == 0 && !r.Header.Has(sessionHeader)
}

// metadata passes on a JSON document that everybody reads alike.
func (e *exchange) metadata(ctx context.Context, next inspect.Handler) (*inspect.Response, error) {
	c := &call{name: "GET", method: &method{name: "GET"}, record: e.newRecord()}
	c.record.Method = "GET"
	e.calls = append(e.calls, c)
	c.verdict = e.ask(c, policy.Object{})
	c.record.Decision = c.verdict
	if !c.verdict.Allowed {
		c.record.Status = 404
		return reply(404, "text/plain; charset=utf-8", []byte("Not Found\n")), nil
	}
	up, err := next.Do(ctx, e.x)
	if err != nil || up.Body == nil || up.ContentLength == 0 || media(up.Header.Get("Content-Type")) != "application/json" {
		if err != nil {
			return nil, err
		}
		return e.respond(ctx, up)
	}
	c.record.Status = up.Status
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
	up.Body, up.ContentLength = &inMemory{bytes.NewReader(e.in)}, int64(len(e.in))
	return up, nil
}
