package mcp

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/jsonrpc"
)

// checkHeader says what is wrong with a request's header, "" if nothing is.
// Servers disagree about repeated lines (Go takes the first, Node joins them),
// about bytes beyond ASCII and about names spelled with an underscore; methods
// in a header would make the request another one.
func checkHeader(h inspect.Header) (problem string) {
	for i := range h {
		name := h[i].Name
		if overridesMethod(name) {
			return "a header that overrides the HTTP method is not accepted"
		}
		if strings.IndexByte(name, '_') >= 0 && isSingle(strings.ReplaceAll(name, "_", "-")) {
			return "a header of the protocol is spelled with an underscore"
		}
		if !isSingle(name) {
			continue
		}
		for _, later := range h[i+1:] {
			if strings.EqualFold(later.Name, name) {
				return "the header " + name + " appears twice"
			}
		}
		for j := range len(h[i].Value) {
			if c := h[i].Value[j]; c >= 0x7f || c < 0x20 {
				return "the header " + name + " has bytes that are not printable ASCII"
			}
		}
	}
	return ""
}

// isSingle tells whether a header may appear only once.
func isSingle(name string) bool {
	switch len(name) {
	case 4:
		return strings.EqualFold(name, "Host")
	case 6:
		return strings.EqualFold(name, "Origin")
	case 12:
		if strings.EqualFold(name, "Content-Type") {
			return true
		}
	case 13:
		if strings.EqualFold(name, "Last-Event-Id") || strings.EqualFold(name, "Authorization") {
			return true
		}
	case 16:
		if strings.EqualFold(name, "Content-Encoding") {
			return true
		}
	}
	return len(name) > 4 && strings.EqualFold(name[:4], "Mcp-")
}

func overridesMethod(name string) bool {
	switch len(name) {
	case len("x-http-method-override"), len("x-http-method"), len("x-method-override"):
	default:
		return false
	}
	switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
	case "x-http-method-override", "x-http-method", "x-method-override":
		return true
	}
	return false
}

// isJSON tells whether a request's Content-Type is application/json in UTF-8.
func isJSON(contentType string) bool {
	media, params, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		return false
	}
	params = strings.Trim(params, " \t")
	if params == "" {
		return !strings.Contains(contentType, ";")
	}
	name, value, ok := strings.Cut(params, "=")
	return ok && strings.EqualFold(name, "charset") && strings.EqualFold(strings.Trim(value, `"`), "utf-8")
}

// media is the type of a Content-Type, without parameters.
func media(contentType string) string {
	m, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(m))
}

func isIdentity(encoding string) bool {
	return encoding == "" || strings.EqualFold(encoding, "identity")
}

const (
	sentinelStart = "=?base64?"
	sentinelEnd   = "?="
)

// mirrored is the text that a modern header mirrors: as it is, or base64
// between the sentinel's marks (SEP-2243, value encoding).
func mirrored(value string) (string, bool) {
	inner, ok := strings.CutPrefix(value, sentinelStart)
	if !ok {
		return value, true
	}
	if inner, ok = strings.CutSuffix(inner, sentinelEnd); !ok {
		return value, true
	}
	text, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil || !utf8.Valid(text) {
		return "", false
	}
	return string(text), true
}

// checkMirror compares the headers that mirror the body with the body. In the
// modern era requests must have them; elsewhere they must not lie.
func (e *exchange) checkMirror(m *message, known *method, name string) *refusal {
	h := e.x.Request.Header
	mismatch := func(problem string) *refusal {
		return &refusal{status: 400, code: codeHeaderMismatch, problem: problem}
	}
	needed := e.modern && m.Kind == jsonrpc.Request
	switch text, ok := mirrored(h.Get("Mcp-Method")); {
	case !h.Has("Mcp-Method") && needed:
		return mismatch("the Mcp-Method header is missing")
	case h.Has("Mcp-Method") && (!ok || text != m.Method):
		return mismatch("the Mcp-Method header and the method in the body differ")
	}
	if !known.is(named | mayBeNamed) {
		return nil
	}
	switch text, ok := mirrored(h.Get("Mcp-Name")); {
	case !h.Has("Mcp-Name") && needed && known.is(named):
		return mismatch("the Mcp-Name header is missing")
	case h.Has("Mcp-Name") && (!ok || text != name):
		return mismatch("the Mcp-Name header and the name in the body differ")
	}
	return nil
}
