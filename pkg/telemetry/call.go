package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// A Call is the record of one call inside a connection. Its fields are filled
// by one goroutine. The zero Call is a record that goes nowhere.
type Call struct {
	Method, Protocol, Session   string // Session is hashed before it is written
	Object                      policy.Object
	ID                          string // JSON-RPC id as written
	Decision                    policy.Decision
	Snapshot                    uint64
	Status                      int  // HTTP status that went back
	ErrorCode                   int  // JSON-RPC error code that went back, 0 if none
	ToolError                   bool // the result said isError
	Hidden                      int  // how many items a list lost to filtering
	RequestBytes, ResponseBytes int64
	Arguments                   []byte // only if a policy opts in; redacted, or a digest, by the caller

	// What else policy looked at, so that a decision can be made again from the record.
	Port                      uint16 // that was asked about
	HTTPMethod, Path, Host    string // of the request
	TokenIssuer, TokenSubject string // of a validated bearer token
	TokenScope                string // its scopes, separated by spaces
	ClientName, ClientVersion string // what the client says of itself

	connection *Connection
	start      time.Time
	session    [16]byte // hashed
	finished   atomic.Bool
}

// Call starts the record of a call. The connection's ends and Service must not
// change from here on.
func (c *Connection) Call() *Call {
	if c == nil || c.recorder == nil {
		return &Call{}
	}
	c.Open()
	return &Call{connection: c, start: time.Now()}
}

// Finish writes the record, exactly once; err is what went wrong, nil if the
// call was answered, be it with a denial.
func (c *Call) Finish(err error) {
	if c.connection == nil || c.finished.Swap(true) {
		return
	}
	r := c.connection.recorder
	end := time.Now()
	c.hashSession()
	r.metrics.call(c, end.Sub(c.start), err)
	r.logCall(c, end, err)
	r.auditCall(c, end, err)
}
