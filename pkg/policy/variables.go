package policy

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/go-json-experiment/json"
)

// variables are what expressions see of a question, worked out when one asks
// and then kept for the others.
type variables struct {
	question  question
	arguments any               // a map, or the error; nil: not yet
	headers   map[string]string // nil: not yet
}

// Parent implements cel.Activation: there is none.
func (v *variables) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	q := &v.question
	c := q.call
	switch name {
	case "source.spiffeId":
		return c.Source.String(), true
	case "source.identity.trustDomain":
		return c.Source.TrustDomain(), true
	case "source.identity.namespace":
		return c.Source.Namespace(), true
	case "source.identity.serviceAccount":
		return c.Source.ServiceAccount(), true
	case "source.address":
		return v.sourceAddress(), true
	case "destination.spiffeId":
		return c.Callee.String(), true
	case "destination.service":
		return c.Destination.Service.Hostname, true
	case "destination.workload":
		if c.Destination.Workload == nil {
			return "", true
		}
		return c.Destination.Workload.Name, true
	case "destination.namespace":
		if c.Destination.Workload == nil {
			return c.Destination.Service.Namespace, true
		}
		return c.Destination.Workload.Namespace, true
	case "destination.port":
		return int64(c.Destination.Address.Port()), true
	case "jwt":
		if c.Claims == nil {
			return map[string]any{}, true
		}
		return c.Claims, true
	case "request.method":
		return c.HTTP.Method, true
	case "request.path":
		return c.HTTP.Path, true
	case "request.host":
		return c.HTTP.Host, true
	case "request.headers":
		return v.allHeaders(), true
	case "request.time":
		return c.Time, true
	}
	return v.resolveMCP(name)
}

func (v *variables) resolveMCP(name string) (any, bool) {
	q := &v.question
	switch name {
	case "mcp.methodName":
		return q.method, true
	case "mcp.protocolVersion":
		return q.call.Protocol, true
	case "mcp.sessionId":
		return q.call.Session, true
	case "mcp.tool.name":
		return v.named(KindTool, KindTool), true
	case "mcp.resource.uri":
		return v.named(KindResource, KindTemplate), true
	case "mcp.prompt.name":
		return v.named(KindPrompt, KindPrompt), true
	case "mcp.task.id":
		return v.named(KindTask, KindTask), true
	case "mcp.client.name":
		return q.call.Client.Name, true
	case "mcp.client.version":
		return q.call.Client.Version, true
	case "mcp.client.capabilities":
		if q.call.Client.Capabilities == nil {
			return map[string]any{}, true
		}
		return decodeArguments(q.call.Client.Capabilities), true
	case "mcp.elicitation.mode":
		return q.call.Elicitation.Mode, true
	case "mcp.elicitation.url":
		return q.call.Elicitation.URL, true
	case toolArguments:
		return v.argumentsOf(KindTool), true
	case promptArguments:
		return v.argumentsOf(KindPrompt), true
	}
	return nil, false
}

func (v *variables) sourceAddress() string {
	if a := v.question.call.SourceAddr.Addr(); a.IsValid() {
		return a.Unmap().WithZone("").String()
	}
	return ""
}

// named is the name of the object if it is of kind a or b.
func (v *variables) named(a, b Kind) string {
	if o := v.question.object; o.Kind == a || o.Kind == b {
		return o.Name
	}
	return ""
}

func (v *variables) allHeaders() map[string]string {
	if v.headers != nil {
		return v.headers
	}
	fields := v.question.call.HTTP.Fields()
	v.headers = make(map[string]string, len(fields))
	for _, name := range sortedKeys(fields) {
		value := strings.Join(fields[name], ",")
		name = strings.ToLower(name)
		if before, twice := v.headers[name]; twice {
			value = before + "," + value
		}
		v.headers[name] = value
	}
	return v.headers
}

// argumentsOf are the arguments if the object is of kind k: a map, or the error
// that makes the expression fail.
func (v *variables) argumentsOf(k Kind) any {
	raw := v.question.arguments
	if v.question.object.Kind != k || raw == nil {
		return map[string]any{}
	}
	if v.arguments == nil {
		v.arguments = newArgumentMap(raw)
	}
	return v.arguments
}

func decodeArguments(raw []byte) any {
	// find, with a path that is not there, checks the nesting of what it steps over.
	if _, err := find(raw, []string{""}); err != nil {
		return types.WrapErr(err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(raw, &decoded); err != nil || decoded == nil {
		return types.WrapErr(errArguments)
	}
	return decoded
}
