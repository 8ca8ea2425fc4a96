package telemetry

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// The audit is one JSON object per line, for every decision about a connection
// and every decision about a call. testdata/audit.schema.json describes it and
// is kept stable: members may be added, none changes its meaning. A member that
// has nothing to say is left out.

func (r *Recorder) auditConnection(c *Connection, end time.Time, err error) {
	if r.audit == nil {
		return
	}
	r.audit.line(func(b []byte) []byte {
		o := object{b: append(b, '{'), first: true}
		o.auditEvent("connection", end)
		o.auditEnds(c)
		o.auditDecision(&c.Decision, c.Snapshot)
		o.open("result")
		o.string("flags", c.Flags)
		o.fault(err)
		o.auditTail(c.BytesSent, c.BytesReceived, end.Sub(c.start))
		return append(o.b, '}')
	})
}

func (r *Recorder) auditCall(c *Call, end time.Time, err error) {
	if r.audit == nil {
		return
	}
	sent, received := c.bytes()
	r.audit.line(func(b []byte) []byte {
		o := object{b: append(b, '{'), first: true}
		o.auditEvent("call", end)
		o.fragment(c.connection.fragments(r).audit)
		o.auditMCP(c)
		o.auditDecision(&c.Decision, c.Snapshot)
		o.open("result")
		if c.Status != 0 {
			o.int("status", int64(c.Status))
		}
		if c.ErrorCode != 0 {
			o.int("code", int64(c.ErrorCode))
		}
		if c.ToolError {
			o.bool("isError", true)
		}
		if c.Hidden != 0 {
			o.int("hidden", int64(c.Hidden))
		}
		o.fault(err)
		o.auditTail(sent, received, end.Sub(c.start))
		return append(o.b, '}')
	})
}

func (o *object) auditEvent(event string, t time.Time) {
	o.key("time")
	o.b = append(appendTime(append(o.b, '"'), t), '"')
	o.string("event", event)
}

// auditEnds are who talked to whom.
func (o *object) auditEnds(c *Connection) {
	o.string("direction", directionName(c.Direction))
	o.open("source")
	o.auditEnd(c.Source, c.SourceWorkload)
	o.address("address", c.SourceAddr)
	o.end()
	o.open("destination")
	o.auditEnd(c.Destination, c.DestinationWorkload)
	o.address("address", c.DestinationAddr)
	o.string("authority", c.HBONEAddr)
	o.string("service", c.Service.Hostname)
	o.end()
	o.string("traceId", c.TraceID)
}

func (o *object) auditEnd(p mesh.Principal, w *mesh.Workload) {
	o.identity("identity", p)
	if w != nil {
		o.string("namespace", w.Namespace)
		o.string("workload", podName(w))
		o.string("cluster", w.ClusterID)
	}
}

func (o *object) auditMCP(c *Call) {
	o.open("mcp")
	o.string("protocol", c.Protocol)
	o.session("session", c)
	o.string("method", c.Method)
	o.string("kind", kindName(c.Object.Kind))
	o.string("name", c.Object.Name)
	o.id("id", c.ID)
	if len(c.Arguments) > 0 {
		o.key("arguments")
		o.b = appendQuoted(o.b, c.Arguments, maxArguments)
	}
	o.end()
	if c.HTTPMethod != "" {
		o.open("request")
		o.int("port", int64(c.Port))
		o.string("method", c.HTTPMethod)
		o.string("path", c.Path)
		o.string("host", c.Host)
		o.end()
	}
	if c.TokenIssuer != "" {
		o.open("token")
		o.string("issuer", c.TokenIssuer)
		o.string("subject", c.TokenSubject)
		o.string("scope", c.TokenScope)
		o.end()
	}
	if c.ClientName != "" || c.ClientVersion != "" {
		o.open("client")
		o.string("name", c.ClientName)
		o.string("version", c.ClientVersion)
		o.end()
	}
}

func (o *object) auditDecision(d *policy.Decision, snapshot uint64) {
	o.open("decision")
	o.bool("allowed", d.Allowed)
	o.string("policy", d.Policy)
	o.string("rule", d.Rule)
	o.string("version", d.Version)
	o.string("reason", d.Reason)
	if len(d.Audits) > 0 {
		o.key("audits")
		o.b = append(o.b, '[')
		for i, a := range d.Audits {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.b, o.first = append(o.b, '{'), true
			o.string("action", actionName(a.Action))
			o.string("policy", a.Policy)
			o.string("rule", a.Rule)
			o.string("version", a.Version)
			o.end()
		}
		o.b = append(o.b, ']')
	}
	o.end()
	o.uint("snapshot", snapshot)
}

// auditTail ends the result and adds sizes and duration.
func (o *object) auditTail(sent, received int64, d time.Duration) {
	o.end()
	o.open("bytes")
	o.int("sent", sent)
	o.int("received", received)
	o.end()
	o.int("durationMicros", d.Microseconds())
}

// hashSession keeps the first 16 hexadecimal digits of the SHA-256 of a session
// id: the id itself is a bearer secret. A person can make the same ones with
// printf %s ID | sha256sum.
func (c *Call) hashSession() {
	if c.Session == "" {
		return
	}
	var room [128]byte // enough for most, and on the stack
	sum := sha256.Sum256(append(room[:0], c.Session...))
	hex.Encode(c.session[:], sum[:len(c.session)/2])
}

func (o *object) session(k string, c *Call) {
	if c.Session == "" {
		return
	}
	o.key(k)
	o.b = append(append(append(o.b, '"'), c.session[:]...), '"')
}

// id writes a JSON-RPC id: an integer as an integer, everything else as the
// string it is or, if it is no id at all, as it was written.
func (o *object) id(k, raw string) {
	if raw == "" {
		return
	}
	if integer(raw) {
		o.key(k)
		o.b = append(o.b, raw...)
		return
	}
	if raw[0] == '"' {
		if n := len(raw) - 1; n > 0 && raw[n] == '"' && !strings.ContainsAny(raw[1:n], `"\\`) {
			o.key(k)
			o.b = appendQuoted(o.b, raw[1:n], maxValue)
			return
		}
		if s, err := jsontext.AppendUnquote(nil, raw); err == nil {
			o.key(k)
			o.b = appendQuoted(o.b, s, maxValue)
			return
		}
	}
	o.string(k, raw)
}

// integer tells whether s is a JSON number without fraction or exponent that
// every reader keeps exact.
func integer(s string) bool {
	if len(s) > 1 && s[0] == '-' {
		s = s[1:]
	}
	if s == "" || len(s) > 15 || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
