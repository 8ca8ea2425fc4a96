package telemetry

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestARecordAsksTheSameQuestionAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Self: githubSelf})
		conn := b.inbound()
		call := conn.Call()
		began := time.Now()
		call.Method, call.Protocol, call.Session, call.Object = "tools/call", "2025-11-25", "s", policy.Object{Kind: policy.KindTool, Name: "get_issue"}
		call.Port, call.HTTPMethod, call.Path, call.Host = 8080, "POST", "/mcp", "github"
		call.TokenIssuer, call.TokenSubject, call.TokenScope = "i", "alice", "a b"
		call.ClientName, call.ClientVersion = "ide", "2"
		call.Decision = policy.Decision{Policy: "tools/p", Rule: "r", Version: "1", Reason: "because"}
		time.Sleep(time.Second)
		call.Finish(nil)
		conn.Close(nil)
		_, audit := b.close(t)
		got, d, err := ReadCall([]byte(audit[0]))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(d, call.Decision) {
			t.Errorf("decision %+v", d)
		}
		want := policy.Recorded{
			Call: policy.Call{
				Direction: policy.Inbound, Source: planner, SourceAddr: conn.SourceAddr, Callee: github,
				Destination: policy.Destination{Service: githubService, Workload: &mesh.Workload{Name: "github-1", Namespace: "tools"},
					Address: netip.AddrPortFrom(conn.DestinationAddr.Addr(), 8080)},
				Protocol: "2025-11-25", Method: "tools/call", Object: policy.Object{Kind: policy.KindTool, Name: "get_issue"},
				Client: policy.Client{Name: "ide", Version: "2"},
				HTTP:   policy.HTTPRequest{Method: "POST", Path: "/mcp", Host: "github"},
				Claims: map[string]any{"iss": "i", "sub": "alice", "scope": "a b"},
			},
			Lacks: policy.Lacks{Arguments: true, Claims: true, Headers: true, Session: true, Capabilities: true},
		}
		if !got.Call.Time.Equal(began) {
			t.Errorf("asked at %v, not %v", got.Call.Time, began)
		}
		got.Call.Time = time.Time{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if _, _, err := ReadCall([]byte(audit[1])); !errors.Is(err, ErrNotACall) {
			t.Errorf("a connection: %v", err)
		}
	})
}

func TestARecordThatWasCutIsNoQuestion(t *testing.T) {
	b := newBench(t, Config{Self: githubSelf})
	conn := b.inbound()
	for _, name := range []string{strings.Repeat("x", 300), "fine"} {
		call := conn.Call()
		call.Method, call.Object = "tools/call", policy.Object{Kind: policy.KindTool, Name: name}
		call.Finish(nil)
	}
	conn.Close(nil)
	_, audit := b.close(t)
	if _, _, err := ReadCall([]byte(audit[0])); err == nil || !strings.Contains(err.Error(), "cut") {
		t.Errorf("got %v", err)
	}
	if _, _, err := ReadCall([]byte(audit[1])); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"", "{", `{"event":"call"}`, `{"event":"call","direction":"inbound","mcp":{"kind":"x"}}`, `{"event":"call","direction":"inbound","source":{"identity":"x"}}`} {
		if _, _, err := ReadCall([]byte(line)); err == nil {
			t.Errorf("%q was read", line)
		}
	}
}

func FuzzReadCall(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-25T09:00:00Z","event":"call","direction":"inbound","source":{"identity":"spiffe://td/ns/a/sa/b","address":"10.0.0.1:1"},"mcp":{"method":"tools/call","kind":"tool","name":"x"},"request":{"port":9000},"token":{"issuer":"i"},"decision":{"allowed":true},"durationMicros":5}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, _, err := ReadCall(line)
		if err == nil && r.Call.Direction != policy.Inbound && r.Call.Direction != policy.Outbound {
			t.Fatalf("read %+v", r)
		}
		var none *policy.Policies
		if err == nil && none.Explain(&r).Decision.Allowed {
			t.Fatal("allowed by nothing")
		}
	})
}
