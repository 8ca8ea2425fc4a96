package telemetry

import "github.com/prometheus/client_golang/prometheus"

// knownMethods are the values that the label "method" may have besides
// "unknown": every method of every MCP revision and its known extensions, and
// the bare HTTP requests of a session.
var knownMethods = [...]string{
	"initialize", "ping", "server/discover", "logging/setLevel",
	"tools/list", "tools/call",
	"resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe", "resources/directory/read",
	"prompts/list", "prompts/get", "completion/complete", "subscriptions/listen",
	"tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update",
	"skills/list", "skills/get",
	"sampling/createMessage", "elicitation/create", "roots/list",
	"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/message",
	"notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed",
	"notifications/resources/updated", "notifications/roots/list_changed",
	"notifications/tasks/status", "notifications/tasks", "notifications/elicitation/complete", "notifications/subscriptions/acknowledged",
	"GET", "DELETE",
}

// callLabels are those of outrigger_mcp_calls_total.
var callLabels = [...]string{
	"reporter",
	"source_canonical_service", "source_workload_namespace", "source_principal",
	"destination_canonical_service", "destination_workload_namespace",
	"method", "outcome",
}

// An outcome is what came of a call.
type outcome int

const (
	outcomeOK        outcome = iota
	outcomeToolError         // the tool itself reported an error
	outcomeError             // a JSON-RPC or HTTP error, or no answer at all
	outcomeDenied
	outcomes // how many there are
)

func (o outcome) String() string { return [...]string{"ok", "tool_error", "error", "denied"}[o] }

func outcomeOf(c *Call, err error) outcome {
	switch {
	case !c.Decision.Allowed:
		return outcomeDenied
	case err != nil || c.ErrorCode != 0 || c.Status >= 400:
		return outcomeError
	case c.ToolError:
		return outcomeToolError
	}
	return outcomeOK
}

func methodLabel(method int) string {
	if method < len(knownMethods) {
		return knownMethods[method]
	}
	return unknown
}

// callCounter resolves a counter once per label set, method and outcome.
func (m *metrics) callCounter(s *series, method int, o outcome) prometheus.Counter {
	at := &s.calls[method][o]
	if c := at.Load(); c != nil {
		return *c
	}
	v := &s.values
	c := m.calls.WithLabelValues(v[atReporter],
		v[atSource+1], v[atSourceNamespace], v[atSourcePrincipal], v[atDestination+1], v[atDestinationNamespace],
		methodLabel(method), o.String())
	at.Store(&c)
	return c
}
