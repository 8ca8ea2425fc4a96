//go:build istiod && linux

package istiod_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

// A session whose agent was cut off from it is never ended: the SDK's server keeps it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/modelcontextprotocol/go-sdk/mcp.(*streamableServerConn).Read"))
}

// Two sidecars live under an unmodified istiod: identities of its CA, its
// workloads on demand, its authorization policies and, by EnvoyFilter, agent
// policies; all of it changes while they run, and istiod may be away.
func TestSidecarsObeyAnUnmodifiedIstiod(t *testing.T) {
	w := newTown(t)
	for _, step := range []struct {
		name string
		run  func(*town)
	}{
		{"certificates are of istiod's CA", (*town).certificates},
		{"without an agent policy the MCP port is closed", (*town).refused},
		{"an EnvoyFilter opens it for a tool", func(w *town) { w.apply(agentPolicy("echo")); w.sees("echo") }},
		{"a call goes through and a hidden one does not", (*town).calls},
		{"every address leads where it belongs", (*town).addresses},
		{"a ServiceEntry leads out of the mesh by DNS", (*town).outside},
		{"STRICT refuses who has no certificate", (*town).strict},
		{"a waypoint is gone through and never around", (*town).waypoint},
		{"a changed EnvoyFilter is obeyed", func(w *town) { w.apply(agentPolicy("echo, search_issues")); w.sees("echo", "search_issues") }},
		{"an authorization policy cuts and mends", (*town).authorizations},
		{"istiod may be away", (*town).away},
		{"istiod closes connections and nobody notices", (*town).closes},
		{"a deleted EnvoyFilter closes the port", func(w *town) { w.delete(agentPolicy("echo")); w.refused() }},
		{"another pod takes over", (*town).replaced},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			inner := *w
			inner.T = t
			step.run(&inner)
		}) {
			break
		}
	}
}

func (w *town) certificates() {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.RootPEM)
	for address, want := range map[netip.Addr]string{w.agent: "spiffe://cluster.local/ns/agents/sa/agent", w.server: "spiffe://cluster.local/ns/tools/sa/server"} {
		var chain []*x509.Certificate
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, // verified below, by URI
			VerifyConnection: func(s tls.ConnectionState) error { chain = s.PeerCertificates; return nil }}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", netip.AddrPortFrom(address, 15008).String(), config)
		if err != nil {
			w.Fatal(err)
		}
		c.Close()
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil || len(chain[0].URIs) != 1 || chain[0].URIs[0].String() != want {
			w.Errorf("certificate of %v: %v, %v", chain[0].URIs, err, chain[0].Issuer)
		}
	}
}

func (w *town) calls() {
	a, err := w.session(8080)
	if err != nil {
		w.Fatal(err)
	}
	defer a.Close()
	before := w.app.Executed()
	if r := a.Do(w.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": "hi"}}); r.Text != "hi" {
		w.Errorf("echo answers %+v", r)
	}
	if r := a.Do(w.Context(), sample.Command{Call: "delete_repository", Arguments: map[string]any{"repository": "a/b"}}); r.Code == 0 || r.Broken {
		w.Errorf("a hidden tool answers %+v", r)
	}
	if n := w.app.Executed() - before; n != 1 {
		w.Errorf("the server ran %d calls", n)
	}
}

// addresses: istiod is asked about each when it is first connected to.
func (w *town) addresses() {
	for _, port := range []uint16{8081, 8083} {
		if have, err := w.tools(port); err != nil || !slices.Equal(have, []string{"echo"}) {
			w.Errorf("by port %d: %q, %v", port, have, err)
		}
	}
	if have, err := w.tools(8082); err == nil {
		w.Errorf("an address that nobody has answers %q", have)
	}
}

// authorizations: an open session ends when a policy comes that denies it.
func (w *town) authorizations() {
	a, err := w.session(8080)
	if err != nil {
		w.Fatal(err)
	}
	defer a.Close()
	echo := sample.Command{Call: "echo", Arguments: map[string]any{"text": "hi"}}
	if r := a.Do(w.Context(), echo); r.Text != "hi" {
		w.Fatalf("before: %+v", r)
	}
	deny := authorization("no-agent", `{selector: {matchLabels: {app: server}}, action: DENY, rules: [{from: [{source: {principals: ["cluster.local/ns/agents/sa/agent"]}}]}]}`)
	w.apply(deny)
	w.eventually(func() error {
		if r := a.Do(w.Context(), echo); r.Error == "" {
			return fmt.Errorf("the open session still answers %+v", r)
		}
		return nil
	})
	w.refused()
	w.delete(deny)
	w.sees("echo", "search_issues")
	others := authorization("only-others", `{rules: [{from: [{source: {principals: ["cluster.local/ns/agents/sa/other"]}}]}]}`)
	w.apply(others)
	w.refused()
	w.apply(authorization("agent-too", `{rules: [{from: [{source: {serviceAccounts: ["agents/agent"]}}]}]}`))
	w.sees("echo", "search_issues")
	methods := authorization("agent-too", `{rules: [{to: [{operation: {methods: ["POST"]}}]}]}`)
	w.apply(methods) // connections show no methods: nobody is allowed
	w.refused()
	w.delete(others, methods)
	w.sees("echo", "search_issues")
}

// away: while istiod is away everything goes on as it was; when it comes back
// what has changed is obeyed. This time it closes every connection in an orderly
// way after some seconds, as it does after half an hour where Helm installs it.
func (w *town) away() {
	w.StopIstiod()
	w.sees("echo", "search_issues")
	w.apply(agentPolicy("echo"))
	w.sees("echo", "search_issues")
	if err := w.StartIstiod(w.Context(), "--keepaliveMaxServerConnectionAge="+connectionAge.String()); err != nil {
		w.Fatal(err)
	}
	w.sees("echo")
}

// connectionAge is when istiod begins to close a connection; it gives it ten seconds more.
const connectionAge = 2 * time.Second

// closes: calls go on while the connections of both sidecars to istiod are
// closed and made again at once.
func (w *town) closes() {
	const atOnce = "again_in=0s"
	before := map[string]int{}
	for _, pod := range pods {
		before[pod] = w.logged(pod, atOnce)
	}
	w.eventually(func() error {
		if have, err := w.tools(8080); err != nil || !slices.Equal(have, []string{"echo"}) {
			w.Errorf("the agent sees %q, %v", have, err)
		}
		for _, pod := range pods {
			if w.logged(pod, atOnce) == before[pod] {
				return fmt.Errorf("the sidecar of %s has not come back at once", pod)
			}
		}
		return nil
	})
	w.apply(agentPolicy("search_issues"))
	w.sees("search_issues")
}

var pods = []string{"agent-1", "server-1"}

// logged counts the lines of a sidecar that say something.
func (w *town) logged(pod, what string) int {
	data, err := os.ReadFile(filepath.Join(w.Dir, "sidecar-"+pod+".log"))
	if err != nil {
		w.Fatal(err)
	}
	return strings.Count(string(data), what)
}

// replaced: the server's pod goes and another comes, of which istiod tells
// nobody who has asked for the service before; and nothing reaches the old one.
func (w *town) replaced() {
	w.apply(agentPolicy("search_issues"))
	w.sees("search_issues")
	w.serve(w.successor)
	w.sidecar("tools", "server-2", w.successor, "--label=app=server", fmt.Sprint("--mcp-port=", appPort))
	w.apply(serverPod("server-2", w.successor).YAML())
	w.eventually(func() error { return ready(w.successor) })
	w.delete(serverPod("server-1", w.server).Reference())
	w.eventually(func() error {
		if _, err := w.tools(8083); err == nil {
			return errors.New("the pod that is gone still answers")
		}
		return nil
	})
	w.sees("search_issues")
}
