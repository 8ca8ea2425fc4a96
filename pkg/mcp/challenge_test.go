package mcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

func TestMetadataIsPassedOnFromWhereTheServerSaysThatItIs(t *testing.T) {
	const document = `{"resource":"http://server.test/mcp","authorization_servers":["http://as.test"]}`
	for _, c := range []struct {
		challenge string
		passes    bool
	}{
		{`Bearer resource_metadata="http://server.test/custom/location.json"`, true},
		{`Bearer realm="x", resource_metadata="http://server.test/custom/location.json", scope="a"`, true},
		{`Bearer resource_metadata="http://elsewhere.test/custom/location.json"`, false},
		{`Bearer resource_metadata="http://server.test/custom/location.json?x=1"`, false},
		{`Bearer xresource_metadata="http://server.test/custom/location.json"`, false},
		{`Bearer resource_metadata="http://server.test/other"`, false},
		{`Bearer`, false},
		{`Bearer resource_metadata="http://server.test/mcp"`, false}, // what is there is a stream, not metadata
	} {
		h := newHarness(t, denying(""), Config{})
		h.server = func(*seen) *inspect.Response {
			return &inspect.Response{Status: 401, Header: inspect.Header{{Name: "WWW-Authenticate", Value: c.challenge}}}
		}
		if a := h.send("POST", rpc("1", "tools/list", `{}`)); a.status != 401 {
			t.Fatalf("%s: the challenge became %d", c.challenge, a.status)
		}
		h.server = func(*seen) *inspect.Response { return jsonReply(200, document) }
		x := h.exchange("GET", "")
		x.Request.Target, x.Request.Path = "/custom/location.json", "/custom/location.json"
		if strings.HasSuffix(c.challenge, `/mcp"`) {
			x.Request.Target, x.Request.Path = "/mcp", "/mcp"
		}
		if a := h.do(x); (a.status == 200 && a.body == document) != c.passes {
			t.Errorf("%s: the metadata became %d %s", c.challenge, a.status, a.body)
		}
	}
}

// One server that names ever new places must not keep those of the others from being known.
func TestTheLatestPlaceOfMetadataIsAlwaysKnown(t *testing.T) {
	l := newLocations()
	for i := range maxLocations + 10 {
		path := fmt.Sprintf("/%d", i)
		l.note(place{}, &inspect.Request{Host: "server.test", Path: "/mcp"}, &inspect.Response{Status: 401, Header: inspect.Header{
			{Name: "WWW-Authenticate", Value: `Bearer resource_metadata="http://server.test` + path + `"`}}})
		if !l.has(place{}, path) || len(l.of) > maxLocations {
			t.Fatalf("after %d: known %v, %d places", i, l.has(place{}, path), len(l.of))
		}
	}
}

// Whoever asks for metadata was not asked for a token: what comes back must be just that.
func TestAStreamIsNotPassedOnAsMetadata(t *testing.T) {
	h := newHarness(t, denying(""), Config{})
	h.server = func(*seen) *inspect.Response {
		return eventReply("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
	}
	x := h.exchange("GET", "")
	x.Request.Target, x.Request.Path = metadataPath, metadataPath
	if a := h.do(x); a.status != 502 || strings.Contains(a.body, "notifications") {
		t.Errorf("the stream became %d %s", a.status, a.body)
	}
}
