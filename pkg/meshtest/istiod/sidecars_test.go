//go:build istiod

package istiod_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

// A session whose agent was cut off from it is never ended: the SDK's server keeps it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/modelcontextprotocol/go-sdk/mcp.(*streamableServerConn).Read"))
}

const (
	hostname = "server.tools.svc.cluster.local"
	appPort  = 9000
	patience = 30 * time.Second

	virtual = "10.96.77.7"
	nowhere = "10.96.77.8"
)

// A town is two pods of a mesh that a real istiod runs: an agent with its
// sidecar and an MCP server with its own, both as processes.
type town struct {
	*testing.T
	*istiod.Testbed
	agent, server netip.Addr
	outrigger     string // the program
	app           *sample.Server
}

func newTown(t *testing.T) *town {
	base := [4]byte{127, byte(20 + rand.IntN(200)), byte(rand.IntN(256)), 0}
	at := func(last byte) netip.Addr { base[3] = last; return netip.AddrFrom4(base) }
	w := &town{T: t, Testbed: istiod.Start(t, istiod.Config{}), agent: at(11), server: at(21), app: &sample.Server{}}
	w.build()
	w.apply(istiod.Namespace("agents"), istiod.Namespace("tools"),
		istiod.Pod{Namespace: "agents", Name: "agent-1", ServiceAccount: "agent", Address: w.agent.String(), HBONE: true}.YAML(),
		istiod.Pod{Namespace: "tools", Name: "server-1", ServiceAccount: "server", Address: w.server.String(), HBONE: true, Labels: map[string]string{"app": "server"}}.YAML(),
		fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {namespace: tools, name: server}\nspec: {clusterIP: %s, clusterIPs: [%[1]s], selector: {app: server}, ports: [{port: 80, targetPort: %[2]d, protocol: TCP}]}\n", virtual, appPort))
	w.serve()
	w.sidecar("agents", "agent", w.agent, "--forward="+w.forward(8080)+"="+hostname+":80", "--forward="+w.forward(8081)+"="+virtual+":80",
		"--forward="+w.forward(8082)+"="+nowhere+":80", "--forward="+w.forward(8083)+"="+netip.AddrPortFrom(w.server, appPort).String())
	w.sidecar("tools", "server", w.server, "--label=app=server", fmt.Sprint("--mcp-port=", appPort))
	for _, a := range []netip.Addr{w.agent, w.server} {
		w.eventually(func() error { return ready(a) })
	}
	return w
}

// forward is where the agent calls to get to the service by its name (8080), to
// its virtual address (8081), to an address that nobody has (8082) and to the pod (8083).
func (w *town) forward(port uint16) string { return netip.AddrPortFrom(w.agent, port).String() }

// build makes the program that is tested out of the tree as it is.
func (w *town) build() {
	w.Helper()
	w.outrigger = filepath.Join(w.TempDir(), "outrigger")
	cmd := exec.CommandContext(w.Context(), "go", "build", "-o", w.outrigger, "github.com/outrigger-mesh/outrigger/cmd/outrigger")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("build outrigger: %v\n%s", err, out)
	}
}

func (w *town) apply(documents ...string) {
	w.Helper()
	if err := w.Apply(w.Context(), strings.Join(documents, "\n---\n")); err != nil {
		w.Fatal(err)
	}
}

func (w *town) delete(documents ...string) {
	w.Helper()
	if err := w.Delete(w.Context(), strings.Join(documents, "\n---\n")); err != nil {
		w.Fatal(err)
	}
}

func (w *town) eventually(check func() error) {
	w.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("still not after %v: %v", patience, err)
		}
	}
}

// serve runs the MCP server where the pod's app is.
func (w *town) serve() {
	w.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(w.server, appPort).String())
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.app.Serve(ctx, ln); err != nil && ctx.Err() == nil {
			w.Error(err)
		}
	})
	w.Cleanup(func() { cancel(); running.Wait() })
}

// sidecar runs `outrigger run` as a pod of a service account would.
func (w *town) sidecar(namespace, account string, ip netip.Addr, flags ...string) {
	w.Helper()
	token, err := w.TokenFile(w.Context(), namespace, account)
	if err != nil {
		w.Fatal(err)
	}
	port := func(n uint16) string { return netip.AddrPortFrom(ip, n).String() }
	cmd := exec.Command(w.outrigger, append([]string{"run", "--drain-deadline=1s", "--outbound-listen=off", "--policy-carrier=ecds",
		"--hbone-listen=" + port(15008), "--plain-listen=" + port(15006), "--admin-listen=" + port(15000), "--metrics-listen=" + port(15020), "--ready-listen=" + port(15021)}, flags...)...)
	// What the injector sets, by Istio's names.
	cmd.Env = []string{"POD_NAME=" + account + "-1", "POD_NAMESPACE=" + namespace, "SERVICE_ACCOUNT=" + account, "INSTANCE_IP=" + ip.String(),
		"XDS_ADDRESS=" + w.Secure, "XDS_ROOT_CA=" + w.RootFile, "ALT_XDS_HOSTNAME=" + istiod.ServerName, "AUTH_TOKEN=" + token}
	log, err := os.Create(filepath.Join(w.Dir, "sidecar-"+account+".log"))
	if err != nil {
		w.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait(), log.Close())
		if err != nil {
			w.Errorf("sidecar %s: %v", account, err)
		}
		if data, err := os.ReadFile(log.Name()); err == nil && w.Failed() {
			lines := strings.Split(string(data), "\n")
			w.Logf("---- end of %s\n%s", log.Name(), strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
}

func ready(ip netip.Addr) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + netip.AddrPortFrom(ip, 15021).String() + "/healthz/ready")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(io.LimitReader(response.Body, 1024)); response.StatusCode != http.StatusOK {
		return fmt.Errorf("sidecar %v: %s", ip, text)
	}
	return nil
}

// session is a new one of the agent, through both sidecars.
func (w *town) session(port uint16) (*sample.Agent, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	return sample.Connect(ctx, "http://"+w.forward(port)+"/mcp", "2025-11-25")
}

// tools lists what a new session of the agent sees.
func (w *town) tools(port uint16) ([]string, error) {
	a, err := w.session(port)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	reply := a.Do(w.Context(), sample.Command{List: true})
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	slices.Sort(reply.Tools)
	return reply.Tools, nil
}

// sees waits until the agent sees exactly these tools.
func (w *town) sees(want ...string) {
	w.Helper()
	w.eventually(func() error {
		have, err := w.tools(8080)
		if err == nil && !slices.Equal(have, want) {
			err = fmt.Errorf("the agent sees %q, want %q", have, want)
		}
		return err
	})
}

// refused waits until no session can be opened.
func (w *town) refused() {
	w.Helper()
	w.eventually(func() error {
		if have, err := w.tools(8080); err == nil {
			return fmt.Errorf("the agent still sees %q", have)
		}
		return nil
	})
}

// agentPolicy is one as a stock istiod carries it.
func agentPolicy(tools string) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {namespace: tools, name: server-tools}
spec:
  workloadSelector: {labels: {app: server}}
  configPatches:
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: outrigger-agent-policy
        typed_config:
          "@type": type.googleapis.com/xds.type.v3.TypedStruct
          type_url: type.googleapis.com/outrigger.policy.v1alpha1.AgentPolicy
          value:
            apiVersion: outrigger.dev/v1alpha1
            kind: AgentPolicy
            metadata: {name: server-tools, namespace: tools}
            spec:
              ports: [{number: %d, protocol: MCP}]
              rules:
              - name: agent
                action: Allow
                source: {serviceAccounts: [{namespace: agents, name: agent}]}
                mcp: {tools: [%s]}
`, appPort, tools)
}

func authorization(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: tools, name: %s}\nspec: %s\n", name, spec)
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
		{"a changed EnvoyFilter is obeyed", func(w *town) { w.apply(agentPolicy("echo, search_issues")); w.sees("echo", "search_issues") }},
		{"an authorization policy cuts and mends", (*town).authorizations},
		{"istiod may be away", (*town).away},
		{"istiod closes connections and nobody notices", (*town).closes},
		{"a deleted EnvoyFilter closes the port", func(w *town) { w.delete(agentPolicy("echo")); w.refused() }},
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
	for _, account := range accounts {
		before[account] = w.logged(account, atOnce)
	}
	w.eventually(func() error {
		if have, err := w.tools(8080); err != nil || !slices.Equal(have, []string{"echo"}) {
			w.Errorf("the agent sees %q, %v", have, err)
		}
		for _, account := range accounts {
			if w.logged(account, atOnce) == before[account] {
				return fmt.Errorf("the sidecar of %s has not come back at once", account)
			}
		}
		return nil
	})
	w.apply(agentPolicy("search_issues"))
	w.sees("search_issues")
}

var accounts = []string{"agent", "server"}

// logged counts the lines of a sidecar that say something.
func (w *town) logged(account, what string) int {
	data, err := os.ReadFile(filepath.Join(w.Dir, "sidecar-"+account+".log"))
	if err != nil {
		w.Fatal(err)
	}
	return strings.Count(string(data), what)
}
