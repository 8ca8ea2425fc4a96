package mcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestAnAddressIsDeniedIfWhatItStandsForIs(t *testing.T) {
	for address, denied := range map[string]bool{
		"file:///safe":                         false,
		"file:///danger":                       true,
		"file:///x/../danger":                  true,
		"file:///./danger":                     true,
		"file:///%2e/danger":                   true,
		"file:///x/%2E%2e/danger":              true,
		"FILE:///danger":                       true,
		"file://localhost/danger":              true,
		`file:\\\danger`:                       true,
		"file:/danger":                         true,
		" file:///danger":                      true,
		"file:///danger ":                      true,
		"file:///danger/":                      false,
		"file:///%64anger":                     true, // servers decode the path that they found
		"file:///%64%61nge%72":                 true,
		"file:///x%2f..%2Fdanger":              true,
		"file:///x/..%2fdanger":                true,
		"file:///x/..%5cdanger":                true,
		"file:///%2564anger":                   false,
		"file:///%20danger":                    false,
		"file:///%6":                           false,
		"note://danger":                        false,
		"not an address":                       false,
		"file:///{path}":                       false,
		"file:///" + strings.Repeat("a", 9000): false,
	} {
		h := newHarness(t, denying("* file:///danger"), Config{})
		h.server = func(*seen) *inspect.Response {
			return jsonReply(200, `{"jsonrpc":"2.0","id":1,"result":{"contents":[]}}`)
		}
		a := h.send("POST", rpc("1", "resources/read", fmt.Sprintf(`{"uri":%s}`, quote(address))))
		if got := !strings.Contains(a.body, `"result"`); got != denied {
			t.Errorf("%.60q: denied %v; %s", address, got, a.body)
		}
		// The decision can be made again from the record only if that names what it was about.
		if r := h.records()[0]; denied && r.MCP.Name != "file:///danger" || !denied && r.MCP.Name != address && len(address) < 1000 {
			t.Errorf("%.60q is recorded as %q", address, r.MCP.Name)
		}
	}
}

func TestAnAllowedAddressMayHaveEscapesButNotClimb(t *testing.T) {
	for address, allowed := range map[string]bool{
		"file:///docs/my%20file":       true,
		"repo://owner%2Fname":          true,
		"file:///docs/%7Euser":         true,
		"file:///docs/..%2fsecret":     false,
		"file:///docs/%2e%2e%2fsecret": false,
		"file:///docs/..%5Csecret":     false,
	} {
		h := newHarness(t, letter(address), Config{})
		a := h.send("POST", rpc("1", "resources/read", fmt.Sprintf(`{"uri":%s}`, quote(address))))
		if got := strings.Contains(a.body, `"result"`); got != allowed {
			t.Errorf("%q: allowed %v", address, got)
		}
		if r := h.records()[0]; allowed && r.MCP.Name != address {
			t.Errorf("%q is recorded as %q", address, r.MCP.Name)
		}
	}
}

// A letter allows what is written like it, and whatever has no resource.
type letter string

func (l letter) Call(c *policy.Call) policy.Decision {
	return policy.Decision{Allowed: c.Object.Name == "" || c.Object.Name == string(l)}
}

func (l letter) Visible(c *policy.Call, o policy.Object) policy.Decision {
	return policy.Decision{Allowed: o.Name == string(l)}
}

func (letter) Terms(policy.Direction, policy.Destination) policy.Terms { return policy.Terms{} }
