package telemetry

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// The access log has ztunnel's format: the same fields in the same order under
// the same names, so that what reads ztunnel's reads ours. What ztunnel does
// not know follows after them.

// logs tells whether lines of a level are written at all.
func (r *Recorder) logs(level slog.Level) bool {
	return r != nil && r.access != nil && level >= r.level.Level()
}

func (r *Recorder) logOpened(c *Connection) {
	if !r.logs(slog.LevelDebug) {
		return
	}
	now := time.Now()
	r.access.line(func(b []byte) []byte {
		o := r.begin(b, now, slog.LevelDebug, "connection opened")
		o.ends(c)
		o.policy(&c.Decision, c.Snapshot)
		return r.finish(&o)
	})
}

func (r *Recorder) logClosed(c *Connection, end time.Time, err error, early bool) {
	level, message := slog.LevelInfo, "connection complete"
	switch {
	case early:
		level, message = slog.LevelWarn, "connection failed"
	case err != nil:
		level = slog.LevelError
	}
	if !r.logs(level) {
		return
	}
	r.access.line(func(b []byte) []byte {
		o := r.begin(b, end, level, message)
		if early {
			o.address("src.addr", c.SourceAddr)
			o.address("dst.addr", c.DestinationAddr)
			o.string("direction", directionName(c.Direction))
			o.fault(err)
			return r.finish(&o)
		}
		o.ends(c)
		o.int("bytes_sent", c.BytesSent)
		o.int("bytes_recv", c.BytesReceived)
		o.milliseconds("duration", end.Sub(c.start))
		o.fault(err)
		o.policy(&c.Decision, c.Snapshot)
		o.string("flags", c.Flags)
		o.string("trace_id", c.TraceID)
		return r.finish(&o)
	})
}

func (r *Recorder) logCall(c *Call, end time.Time, err error) {
	level := slog.LevelInfo
	if err != nil || !c.Decision.Allowed {
		level = slog.LevelError
	}
	if !r.logs(level) {
		return
	}
	sent, received := c.bytes()
	r.access.line(func(b []byte) []byte {
		o := r.begin(b, end, level, "call complete")
		o.fragment(c.connection.fragments(r).access)
		o.int("bytes_sent", sent)
		o.int("bytes_recv", received)
		o.milliseconds("duration", end.Sub(c.start))
		o.fault(err)
		o.call(c)
		o.policy(&c.Decision, c.Snapshot)
		o.string("trace_id", c.connection.TraceID)
		return r.finish(&o)
	})
}

// begin starts a line: time, level, scope, message.
func (r *Recorder) begin(b []byte, t time.Time, level slog.Level, message string) object {
	if r.format == FormatJSON {
		b = append(b, `{"level":"`...)
		b = append(b, levelName(level)...)
		b = append(b, `","time":"`...)
		b = appendTime(b, t)
		b = append(b, `","scope":"access","message":"`...)
		b = append(append(b, message...), '"')
		return object{b: b}
	}
	b = append(appendTime(b, t), '\t')
	b = append(b, levelName(level)...)
	b = append(b, "\taccess\t"...)
	b = append(append(b, message...), '\t')
	return object{b: b, text: true, first: true}
}

func (r *Recorder) finish(o *object) []byte {
	if r.format == FormatJSON {
		return append(o.b, '}')
	}
	return o.b
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// ends are who talked to whom.
func (o *object) ends(c *Connection) {
	o.address("src.addr", c.SourceAddr)
	if w := c.SourceWorkload; w != nil {
		o.string("src.workload", podName(w))
		o.string("src.namespace", w.Namespace)
	}
	o.identity("src.identity", c.Source)
	if w := c.SourceWorkload; w != nil {
		o.string("src.cluster", w.ClusterID)
	}
	o.address("dst.addr", c.DestinationAddr)
	o.bare("dst.hbone_addr", c.HBONEAddr)
	o.string("dst.service", c.Service.Hostname)
	if w := c.DestinationWorkload; w != nil {
		o.string("dst.workload", podName(w))
		o.string("dst.namespace", w.Namespace)
	}
	o.identity("dst.identity", c.Destination)
	if w := c.DestinationWorkload; w != nil {
		o.string("dst.cluster", w.ClusterID)
	}
	o.string("direction", directionName(c.Direction))
}

// call is what was called and what came of it.
func (o *object) call(c *Call) {
	o.string("mcp.protocol", c.Protocol)
	o.string("mcp.method", c.Method)
	if kind := kindName(c.Object.Kind); kind != "" {
		o.string("mcp.kind", kind)
		o.string("mcp.name", c.Object.Name)
	}
	o.string("mcp.id", c.ID)
	o.session("mcp.session", c)
	if c.Status != 0 {
		o.int("status", int64(c.Status))
	}
	if c.ErrorCode != 0 {
		o.int("error_code", int64(c.ErrorCode))
	}
	if c.ToolError {
		o.bool("tool_error", true)
	}
	if c.Hidden != 0 {
		o.int("hidden", int64(c.Hidden))
	}
}

// policy is who decided, and by which configuration.
func (o *object) policy(d *policy.Decision, snapshot uint64) {
	if decided(d) {
		o.string("decision", verdict(d))
		o.string("policy", d.Policy)
		o.string("rule", d.Rule)
		o.string("policy_version", d.Version)
		if !d.Allowed {
			o.string("reason", d.Reason)
		}
	}
	if snapshot != 0 {
		o.uint("snapshot", snapshot)
	}
}

func (o *object) fault(err error) {
	if err != nil {
		o.string("error", err.Error())
	}
}

// identity writes a SPIFFE ID without building the string first.
func (o *object) identity(k string, p mesh.Principal) {
	if p.IsZero() {
		return
	}
	o.key(k)
	o.b = append(o.b, `"spiffe://`...)
	o.b = appendEscaped(o.b, p.TrustDomain(), maxIdentity)
	o.b = append(appendEscaped(o.b, p.Path(), maxIdentity), '"')
}

// podName falls back as ztunnel does.
func podName(w *mesh.Workload) string {
	if w.Name != "" {
		return w.Name
	}
	return w.CanonicalName
}

// bytes are a call's as the connection would count them: sent is towards the peer.
func (c *Call) bytes() (sent, received int64) {
	if c.connection.Direction == policy.Inbound {
		return c.ResponseBytes, c.RequestBytes
	}
	return c.RequestBytes, c.ResponseBytes
}

func (o *object) milliseconds(k string, d time.Duration) {
	o.key(k)
	o.b = strconv.AppendInt(append(o.b, '"'), d.Milliseconds(), 10)
	o.b = append(o.b, `ms"`...)
}
