package telemetry

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// ErrNotACall means that a line of the audit is not the record of a call.
var ErrNotACall = errors.New("not the record of a call")

// auditLine is what of an audit record tells of a decision about a call.
type auditLine struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"`
	Direction string    `json:"direction"`
	Source    struct {
		Identity string `json:"identity"`
		Address  string `json:"address"`
	} `json:"source"`
	Destination struct {
		Identity  string `json:"identity"`
		Address   string `json:"address"`
		Namespace string `json:"namespace"`
		Workload  string `json:"workload"`
		Service   string `json:"service"`
	} `json:"destination"`
	MCP struct {
		Protocol string `json:"protocol"`
		Session  string `json:"session"`
		Method   string `json:"method"`
		Kind     string `json:"kind"`
		Name     string `json:"name"`
	} `json:"mcp"`
	Request struct {
		Port   uint16 `json:"port"`
		Method string `json:"method"`
		Path   string `json:"path"`
		Host   string `json:"host"`
	} `json:"request"`
	Token *struct {
		Issuer  string `json:"issuer"`
		Subject string `json:"subject"`
		Scope   string `json:"scope"`
	} `json:"token"`
	Client struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"client"`
	Decision       recordedDecision `json:"decision"`
	DurationMicros int64            `json:"durationMicros"`
}

type recordedDecision struct {
	Allowed bool   `json:"allowed"`
	Policy  string `json:"policy"`
	Rule    string `json:"rule"`
	Version string `json:"version"`
	Reason  string `json:"reason"`
}

// ReadCall reads an audit record of a call: the question that policy was asked, as
// far as the record has it, and what was decided. A line of another kind is
// ErrNotACall. The workload that was reached has only its names: where policies
// depend on more of it, the caller completes it.
func ReadCall(line []byte) (policy.Recorded, policy.Decision, error) {
	var a auditLine
	if err := json.Unmarshal(line, &a); err != nil {
		return policy.Recorded{}, policy.Decision{}, fmt.Errorf("read audit record: %w", err)
	}
	if a.Event != "call" {
		return policy.Recorded{}, policy.Decision{}, ErrNotACall
	}
	r, err := a.recorded()
	if err != nil {
		return policy.Recorded{}, policy.Decision{}, fmt.Errorf("read audit record: %w", err)
	}
	d := a.Decision
	return r, policy.Decision{Allowed: d.Allowed, Policy: d.Policy, Rule: d.Rule, Version: d.Version, Reason: d.Reason}, nil
}

func (a *auditLine) recorded() (r policy.Recorded, err error) {
	c := &r.Call
	switch a.Direction {
	case "inbound":
		c.Direction = policy.Inbound
	case "outbound":
		c.Direction = policy.Outbound
	default:
		return r, fmt.Errorf("direction %q is neither inbound nor outbound", a.Direction)
	}
	if c.Source, err = identityOf(a.Source.Identity); err != nil {
		return r, err
	}
	if c.Callee, err = identityOf(a.Destination.Identity); err != nil {
		return r, err
	}
	if c.Object.Kind, err = kindOf(a.MCP.Kind); err != nil {
		return r, err
	}
	for _, text := range []string{a.MCP.Method, a.MCP.Name, a.Request.Path, a.Request.Host} {
		if strings.HasSuffix(text, "…") && len(text) >= maxValue {
			return r, fmt.Errorf("%q was cut when it was recorded", text[:32])
		}
	}
	c.SourceAddr, _ = netip.ParseAddrPort(a.Source.Address) // it may be absent
	to, _ := netip.ParseAddrPort(a.Destination.Address)
	c.Destination.Address = netip.AddrPortFrom(to.Addr(), a.Request.Port)
	c.Destination.Service = mesh.Name{Namespace: a.Destination.Namespace, Hostname: a.Destination.Service}
	if a.Destination.Workload != "" {
		c.Destination.Workload = &mesh.Workload{Name: a.Destination.Workload, Namespace: a.Destination.Namespace}
	}
	c.Protocol, c.Method, c.Object.Name = a.MCP.Protocol, a.MCP.Method, a.MCP.Name
	c.HTTP = policy.HTTPRequest{Method: a.Request.Method, Path: a.Request.Path, Host: a.Request.Host}
	c.Client = policy.Client{Name: a.Client.Name, Version: a.Client.Version}
	c.Time = a.Time.Add(-time.Duration(a.DurationMicros) * time.Microsecond)
	r.Lacks = policy.Lacks{
		Arguments: c.Object.Kind == policy.KindTool || c.Object.Kind == policy.KindPrompt,
		Headers:   true, Capabilities: true,
		Session:     a.MCP.Session != "",
		Elicitation: c.Method == "elicitation/create",
	}
	if a.Token != nil {
		c.Claims = map[string]any{"iss": a.Token.Issuer, "sub": a.Token.Subject, "scope": a.Token.Scope}
		r.Lacks.Claims = true
	}
	return r, nil
}

func identityOf(text string) (mesh.Principal, error) {
	if text == "" {
		return mesh.Principal{}, nil
	}
	return mesh.ParsePrincipal(text)
}

// kindOf is the kind that kindName names.
func kindOf(name string) (policy.Kind, error) {
	for k := policy.KindNone; k <= policy.KindUnknown; k++ {
		if kindName(k) == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("there is no kind %q", name)
}
