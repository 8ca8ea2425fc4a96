package mcp

import "slices"

// The revisions of MCP.
const (
	rev2024 = "2024-11-05"
	rev2503 = "2025-03-26" // the only one with batches; what a request without version header speaks
	rev2506 = "2025-06-18"
	rev2511 = "2025-11-25"
	rev2607 = "2026-07-28" // modern: no sessions, no server requests, POST only
)

// revisions are those we read, oldest first.
var revisions = [...]string{rev2024, rev2503, rev2506, rev2511, rev2607}

const supportedRevisions = `["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]`

const metaVersion = "io.modelcontextprotocol/protocolVersion"

// isRevision tells whether we read that revision.
func isRevision(v string) bool { return slices.Contains(revisions[:], v) }

// settle finds the revision that the message speaks. The header says it and,
// in the modern era, the body says it too; where they could be read
// differently the message is refused (transports/streamable-http, "Protocol
// Version Header"; versioning).
func (e *exchange) settle(header string, m *message) *refusal {
	meta := m.Member(m.Member(m.Params, "_meta"), metaVersion)
	inBody, isText := meta.Text()
	switch {
	case header != "" && !isRevision(header):
		return &refusal{status: 400, code: codeUnsupportedVersion, problem: "unsupported protocol version",
			data: `{"supported":` + supportedRevisions + `,"requested":` + quote(header) + `}`}
	case meta.Kind() != 0 && !isText:
		return &refusal{status: 400, code: codeInvalidParams, problem: "the protocol version in _meta is not a string"}
	case meta.Kind() != 0 && header == "" && e.session != nil && e.session.key.endpoint != "":
		return nil // HTTP+SSE has no version header that a server could read otherwise
	case meta.Kind() != 0 && inBody != header:
		return &refusal{status: 400, code: codeHeaderMismatch, problem: "the MCP-Protocol-Version header and the version in _meta differ"}
	case header == rev2607 && meta.Kind() == 0 && m.Kind == request:
		return &refusal{status: 400, code: codeInvalidParams, problem: "_meta lacks " + metaVersion}
	}
	e.version = header
	e.modern = header == rev2607
	return nil
}

// legacyVersion completes the revision of a legacy message whose header does
// not say it: a session has the one it negotiated.
func (e *exchange) legacyVersion() {
	if e.version != "" {
		return
	}
	e.version = rev2503
	if e.session != nil {
		if v := e.session.negotiated(); v != "" {
			e.version = v
		}
	}
}
