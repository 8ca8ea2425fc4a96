package baseline

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// ask sends one request to an MCP app on a connection of its own.
func ask(t *testing.T, method, body string) (*http.Response, string) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = newMCPApp().answer(far)
	}()
	t.Cleanup(func() {
		near.Close()
		<-done
	})
	req, err := http.NewRequest(method, "http://app/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(near); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(near), req)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodGet {
		return res, ""
	}
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}

func TestMCPAppAnswersACallWithAsManyBytes(t *testing.T) {
	call := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x","arguments":{"q":"` + strings.Repeat("y", 1000) + `"}}}`
	_, answer := ask(t, http.MethodPost, call)
	if len(answer) != len(call) || !json.Valid([]byte(answer)) {
		t.Errorf("%d bytes answer %d: %s", len(answer), len(call), answer)
	}
}

func TestMCPAppListsAMegabyteOfTools(t *testing.T) {
	_, answer := ask(t, http.MethodPost, `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`)
	if len(answer) < ListBytes*9/10 || len(answer) > ListBytes*11/10 || !json.Valid([]byte(answer)) {
		t.Errorf("%d bytes, want about %d; valid: %v", len(answer), ListBytes, json.Valid([]byte(answer)))
	}
	if hidden := strings.Count(answer, `"name":"`+HiddenTools); hidden != listTools/4 {
		t.Errorf("%d tools to be hidden, want %d", hidden, listTools/4)
	}
}

func TestMCPAppOpensSessionsAndStreams(t *testing.T) {
	res, _ := ask(t, http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`)
	if res.StatusCode != http.StatusOK || res.Header.Get("Mcp-Session-Id") == "" {
		t.Errorf("initialize: %s, session %q", res.Status, res.Header.Get("Mcp-Session-Id"))
	}
	if res, _ := ask(t, http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); res.StatusCode != http.StatusAccepted {
		t.Errorf("notification: %s", res.Status)
	}
	if res, _ := ask(t, http.MethodGet, ""); res.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("GET: %v", res.Header)
	}
}
