package policy

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Direction is seen from the workload the sidecar serves.
type Direction uint8

const (
	Inbound  Direction = iota + 1 // it is the server
	Outbound                      // it is the client
)

// A Connection is what L4 authorization may look at.
type Connection struct {
	Source      mesh.Principal // zero if nobody was authenticated
	SourceAddr  netip.AddrPort
	Destination netip.AddrPort // the address that will be dialled, never the service's

	// Direction is 0 or Inbound where the workload is the server. Outbound,
	// L4 authorization is the receiver's; only a quarantined policy denies.
	Direction Direction
	Service   mesh.Name      // outbound: the service that is dialled; zero if none
	Workload  *mesh.Workload // outbound: the workload that is reached; nil if not known
}

// A Destination is what is being reached.
type Destination struct {
	Service  mesh.Name // zero if it was not reached by a service's name or address
	Workload *mesh.Workload
	Address  netip.AddrPort // inbound: the port the workload listens on; outbound: the one that was dialled
}

// Kind is what sort of thing a call names.
type Kind uint8

const (
	KindNone     Kind = iota // the method names nothing: tools/list, ping
	KindTool                 // tools/call
	KindResource             // resources/read, a uri
	KindTemplate             // a uriTemplate
	KindPrompt               // prompts/get
	KindTask                 // tasks/*, a taskId
	KindUnknown              // the method is not one we know
)

// An Object is the thing a call names.
type Object struct {
	Kind Kind
	Name string // tool name, uri, uriTemplate, prompt name or taskId, unescaped
}

// A Call is what agent policy may look at: one JSON-RPC request, notification
// or response, or one bare HTTP request of a session (GET, DELETE).
type Call struct {
	Direction   Direction
	Source      mesh.Principal
	SourceAddr  netip.AddrPort
	Destination Destination

	Protocol  string // the MCP revision in effect, e.g. "2025-11-25"; "" if not known yet
	Session   string // Mcp-Session-Id; "" if none
	Method    string // JSON-RPC method; "GET" or "DELETE" for the bare HTTP requests of a session
	Object    Object
	Arguments []byte // raw JSON object, strictly valid; nil if the method has none

	Callee      mesh.Principal // the verified server; zero if it was not authenticated
	Client      Client         // what the client says of itself
	Elicitation Elicitation    // of elicitation/create

	HTTP   HTTPRequest
	Time   time.Time
	Claims map[string]any // of a validated JWT; nil if there is none
}

// An HTTPRequest is the HTTP request that carried a call.
type HTTPRequest struct {
	Method, Path, Host string
	Header             http.Header
	Source             HeaderSource // of the header, if Header is nil; may be nil
}

// A HeaderSource makes a header when a condition asks for it: few do, and a proxy has
// it in another form.
type HeaderSource interface{ HTTPHeader() http.Header }

// Fields is the header, whoever has it.
func (r *HTTPRequest) Fields() http.Header {
	if r.Header == nil && r.Source != nil {
		return r.Source.HTTPHeader()
	}
	return r.Header
}

// A Client is what an MCP client says of itself. It is not to be relied on.
type Client struct {
	Name, Version string
	Capabilities  []byte // raw JSON object, strictly valid; nil if there are none
}

// An Elicitation is what a server asks a client to ask its user.
type Elicitation struct {
	Mode string // "form", "url" or ""
	URL  string
}
