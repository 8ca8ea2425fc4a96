package telemetry

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A Connection is the record of one connection. Its fields are filled as they
// become known, by one goroutine; Close writes it, exactly once. The zero
// Connection is a record that goes nowhere.
//
// Our own end need not be filled: where the other end was verified, so was ours.
type Connection struct {
	Direction           policy.Direction
	Source              mesh.Principal // verified; zero if nobody was authenticated
	SourceAddr          netip.AddrPort
	SourceWorkload      *mesh.Workload
	Destination         mesh.Principal // verified
	DestinationAddr     netip.AddrPort // the next hop
	HBONEAddr           string         // the CONNECT's authority
	DestinationWorkload *mesh.Workload
	Service             mesh.Name
	Decision            policy.Decision // of L4 authorization; one without Allowed, Policy and Reason was never made
	Snapshot            uint64          // version of the configuration that decided
	TraceID             string
	BytesSent           int64 // towards the peer, as ztunnel counts
	BytesReceived       int64
	Flags               string // ztunnel's response flags: "", DENY, CONNECT, TLS_FAILURE, ...

	recorder *Recorder
	start    time.Time
	series   atomic.Pointer[series] // set by Open
	sent     atomic.Int64
	received atomic.Int64
	closed   atomic.Bool

	mu            sync.Mutex // guards what follows, and that series is set
	earlySent     int64      // counted before Open, and by no metric yet
	earlyReceived int64

	encode  sync.Once // of what follows, by the first call that finishes
	encoded fragments
}

// fragments are the parts of a line that all calls of a connection share.
type fragments struct{ access, audit []byte }

func (c *Connection) fragments(r *Recorder) *fragments {
	c.encode.Do(func() {
		access := object{text: r.format == FormatText, first: true, b: make([]byte, 0, 512)}
		access.ends(c)
		audit := object{first: true, b: make([]byte, 0, 512)}
		audit.auditEnds(c)
		c.encoded = fragments{access.b, audit.b}
	})
	return &c.encoded
}

// Open counts the connection as opened. Call it when both ends and the
// decision are known, before the first Call; Sent and Received may come
// before it. Close does it for those that were not opened, unless they failed before anything was
// decided: these are only logged, as "connection failed".
func (c *Connection) Open() {
	if c.recorder == nil || c.series.Load() != nil {
		return
	}
	c.completeOwnEnd()
	s := c.recorder.metrics.series(c)
	s.opened.Inc()
	c.mu.Lock()
	c.series.Store(s)
	s.countSent(c.Direction, c.earlySent)
	s.countReceived(c.Direction, c.earlyReceived)
	c.mu.Unlock()
	if decided(&c.Decision) {
		c.recorder.metrics.decision(c.Direction, "connection", &c.Decision)
	}
	c.recorder.logOpened(c)
}

// Sent counts n bytes that went towards the peer, while the connection lives.
// It may be called beside Received and Open. Without it, Close counts BytesSent.
func (c *Connection) Sent(n int64) {
	c.sent.Add(n)
	if s := c.opened(&c.earlySent, n); s != nil {
		s.countSent(c.Direction, n)
	}
}

// Received counts n bytes that came from the peer, while the connection lives.
func (c *Connection) Received(n int64) {
	c.received.Add(n)
	if s := c.opened(&c.earlyReceived, n); s != nil {
		s.countReceived(c.Direction, n)
	}
}

// opened returns the series. While there is none, n waits in early for it.
func (c *Connection) opened(early *int64, n int64) *series {
	if s := c.series.Load(); s != nil {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.series.Load()
	if s == nil {
		*early += n
	}
	return s
}

// Close writes the record; err is why the connection ended, nil if it simply did.
func (c *Connection) Close(err error) {
	if c.recorder == nil || c.closed.Swap(true) {
		return
	}
	r := c.recorder
	r.metrics.sockets(c.Direction).Dec()
	early := err != nil && c.series.Load() == nil && !decided(&c.Decision)
	if !early {
		c.Open()
		c.settleBytes()
		c.series.Load().closed.Inc()
		if c.Flags != "" && c.Flags != "-" {
			r.metrics.failed(c).Inc()
		}
	}
	end := time.Now()
	r.logClosed(c, end, err, early)
	if early || decided(&c.Decision) {
		r.auditConnection(c, end, err)
	}
}

// settleBytes makes the fields and the live counts agree.
func (c *Connection) settleBytes() {
	series, sent, received := c.series.Load(), c.sent.Load(), c.received.Load()
	if missing := c.BytesSent - sent; missing > 0 {
		series.countSent(c.Direction, missing)
	}
	if missing := c.BytesReceived - received; missing > 0 {
		series.countReceived(c.Direction, missing)
	}
	c.BytesSent = max(c.BytesSent, sent)
	c.BytesReceived = max(c.BytesReceived, received)
}

// completeOwnEnd names our own end of the connection.
func (c *Connection) completeOwnEnd() {
	self, proof := c.recorder.self, c.recorder.proof
	switch c.Direction {
	case policy.Inbound:
		if c.DestinationWorkload == nil {
			c.DestinationWorkload = self
		}
		if c.Destination.IsZero() && !c.Source.IsZero() {
			c.Destination = proof
		}
	case policy.Outbound:
		if c.SourceWorkload == nil {
			c.SourceWorkload = self
		}
		if c.Source.IsZero() && !c.Destination.IsZero() {
			c.Source = proof
		}
	}
}

// decided tells whether somebody made the decision.
func decided(d *policy.Decision) bool {
	return d.Allowed || d.Policy != "" || d.Reason != "" || len(d.Audits) > 0
}
