package mcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
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
		"file:///%64anger":                     false, // another file: nobody decodes it before it looks it up
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
