package mcp

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

func TestAnHTTPErrorOutsideOfJSONRPCIsPassedOn(t *testing.T) {
	challenge := inspect.Field{Name: "WWW-Authenticate", Value: `Bearer resource_metadata="http://h/.well-known/oauth-protected-resource"`}
	for _, c := range []struct {
		body   string
		passes bool
	}{
		{`{"error":"invalid_token","error_description":"it ended"}`, true},
		{`{"message":"no","status":401}`, true},
		{`{}`, false},
		{`{"error":{"code":1,"message":"x"}}`, false},
		{`{"error":"x","result":"y"}`, false},
		{`{"error":"x","id":1}`, false},
		{`{"Error":"x"}`, false},
		{`{"error":"x","error":"y"}`, false},
		{`["x"]`, false},
		{`{"error":"x"} {}`, false},
	} {
		for _, status := range []int{200, 401, 403} {
			h := newHarness(t, denying(""), Config{})
			h.server = func(*seen) *inspect.Response { return jsonReply(status, c.body, challenge) }
			a := h.send("POST", rpc("1", "tools/list", `{}`))
			switch {
			case c.passes && status >= 400 && (a.status != status || a.body != c.body || a.header.Get("WWW-Authenticate") != challenge.Value):
				t.Errorf("%s with %d became %d %s", c.body, status, a.status, a.body)
			case (!c.passes || status < 400) && a.status != 502:
				t.Errorf("%s with %d was passed on as %d %s", c.body, status, a.status, a.body)
			}
		}
	}
}
