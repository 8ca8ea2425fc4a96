package meshtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/control"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const policy = `apiVersion: outrigger.dev/v1alpha1
kind: AgentPolicy
metadata: {name: tools, namespace: tools}
spec:
  ports: [{number: %d, protocol: MCP}]
  rules:
  - name: agent-reads
    action: Allow
    source: {serviceAccounts: [{namespace: agents, name: agent}]}
    mcp: {tools: [search_issues, echo]}
`

func serveMCP(t *testing.T, m *meshtest.Mesh, s *sample.Server) {
	t.Helper()
	ln := m.ListenApp()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx, ln); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func connect(t *testing.T, m *meshtest.Mesh, protocol string) *sample.Agent {
	t.Helper()
	a, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// The official SDK's client and server, in both eras, through both sidecars: a
// list shows what its caller may use, an allowed call is run once, a hidden tool
// answers as one that does not exist and is not run.
func TestSDKClientAndServerInBothEras(t *testing.T) {
	for _, era := range []struct {
		protocol  string
		stateless bool
	}{{"2025-06-18", false}, {"2025-11-25", false}, {"2026-07-28", true}} {
		t.Run(era.protocol, func(t *testing.T) {
			m := meshtest.New(t, meshtest.Config{Policy: policy})
			server := &sample.Server{Stateless: era.stateless}
			serveMCP(t, m, server)
			a := connect(t, m, era.protocol)

			list := a.Do(t.Context(), sample.Command{List: true})
			slices.Sort(list.Tools)
			if list.Protocol != era.protocol || !slices.Equal(list.Tools, []string{"echo", "search_issues"}) {
				t.Fatalf("list is %+v", list)
			}
			if r := a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": "hi"}}); r.Text != "hi" {
				t.Fatalf("echo answers %+v", r)
			}
			hidden := a.Do(t.Context(), sample.Command{Call: "delete_repository", Arguments: map[string]any{"repository": "a/b"}})
			absent := a.Do(t.Context(), sample.Command{Call: "no_such_tool", Arguments: map[string]any{"repository": "a/b"}})
			if hidden.Code != -32602 || hidden.Broken || strings.ReplaceAll(hidden.Error, "delete_repository", "no_such_tool") != absent.Error || absent.Code != hidden.Code {
				t.Fatalf("hidden tool answers %+v, absent one %+v", hidden, absent)
			}
			if n := server.Executed(); n != 1 {
				t.Fatalf("the server ran %d calls, not 1", n)
			}
		})
	}
}

func TestTheNextCallObeysAChangedPolicy(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	a := connect(t, m, "2025-11-25")
	call := sample.Command{Call: "get_repository", Arguments: map[string]any{"repository": "a/b"}}
	if r := a.Do(t.Context(), call); r.Code == 0 {
		t.Fatalf("before the change: %+v", r)
	}
	m.WritePolicy(strings.Replace(policy, "echo]", "echo, get_repository]", 1))
	m.Eventually(func() error { return wantText(a.Do(t.Context(), call), "a/b: a repository") })
	m.WritePolicy(policy)
	m.Eventually(func() error {
		if r := a.Do(t.Context(), call); r.Code == 0 {
			return fmt.Errorf("still allowed: %+v", r)
		}
		return nil
	})
}

func wantText(r sample.Reply, text string) error {
	if r.Text != text {
		return fmt.Errorf("answer is %+v, not %q", r, text)
	}
	return nil
}

// A policy file that is malformed changes nothing; the last good one holds.
func TestAMalformedPolicyFileLeavesTheLastGoodOneInForce(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	a := connect(t, m, "2025-11-25")
	m.WritePolicy("apiVersion: outrigger.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: tools, namespace: tools}\nspec: {rulez: []}\n")
	for range 20 {
		if err := wantText(a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": "x"}}), "x"); err != nil {
			t.Fatal(err)
		}
		if r := a.Do(t.Context(), sample.Command{Call: "delete_repository", Arguments: map[string]any{"repository": "a/b"}}); r.Code == 0 {
			t.Fatalf("a malformed file opened the door: %+v", r)
		}
		time.Sleep(20 * time.Millisecond) // the watcher reads the file meanwhile
	}
}

// While the control plane has never been there nothing is allowed, and
// readiness says what is pending; when it comes, all is well.
func TestControlPlaneAbsentAtStart(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy, WithoutControl: true})
	serveMCP(t, m, &sample.Server{})
	m.Eventually(func() error {
		if text, ok := m.Ready(m.ServerIP); ok || !strings.Contains(text, "pending") || !strings.Contains(text, "certificate") {
			return fmt.Errorf("readiness says %q, %v", text, ok)
		}
		return nil
	})
	if _, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25"); err == nil {
		t.Fatal("a session was opened without any configuration")
	}
	m.StartControl()
	m.WaitReady()
	a := connect(t, m, "2025-11-25")
	if err := wantText(a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": "x"}}), "x"); err != nil {
		t.Fatal(err)
	}
}

func TestTrafficGoesOnWithoutTheControlPlane(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	a := connect(t, m, "2025-11-25")
	m.StopControl()
	for range 50 {
		if err := wantText(a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": "x"}}), "x"); err != nil {
			t.Fatal(err)
		}
	}
	b := connect(t, m, "2025-11-25")
	if r := b.Do(t.Context(), sample.Command{Call: "delete_repository", Arguments: map[string]any{"repository": "a/b"}}); r.Code == 0 {
		t.Fatalf("without the control plane everything is allowed: %+v", r)
	}
	m.StartControl()
}

// When the CA is away for longer than the certificates live, nothing passes;
// when it returns, traffic does.
func TestAnExpiredCertificateFailsClosedAndRecovers(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy, TTL: 2 * time.Second})
	serveMCP(t, m, &sample.Server{})
	m.StopControl()
	m.Eventually(func() error {
		if text, ok := m.Ready(m.ServerIP); ok || !strings.Contains(text, "certificate") {
			return fmt.Errorf("readiness says %q, %v", text, ok)
		}
		return nil
	})
	if _, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25"); err == nil {
		t.Fatal("a session was opened with an expired certificate")
	}
	m.StartControl()
	m.WaitReady()
	m.Eventually(func() error {
		a, err := sample.Connect(t.Context(), "http://"+m.Agent+"/mcp", "2025-11-25")
		if err != nil {
			return err
		}
		return a.Close()
	})
}

// dialer is a peer of the mesh that is no sidecar, with a certificate of the
// mesh's authority.
func dialer(t *testing.T, m *meshtest.Mesh, account string) *hbone.Dialer {
	t.Helper()
	dir := t.TempDir()
	if err := control.Issue(m.Dir, mesh.NewPrincipal("cluster.local", "agents", account), time.Hour, dir); err != nil {
		t.Fatal(err)
	}
	files, err := identity.NewFiles(identity.FilesConfig{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Bundle: filepath.Join(dir, "bundle.pem"), Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { files.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	m.Eventually(func() error { _, err := files.SVID(); return err })
	d, err := hbone.NewDialer(hbone.DialerConfig{Mutual: &identity.Mutual{Source: files}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestAnAuthorityOfSomebodyElseIsRefused(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	d := dialer(t, m, "agent")
	for _, c := range []struct {
		authority string
		status    int
	}{
		{netip.AddrPortFrom(m.AgentIP, m.App.Port()).String(), http.StatusBadRequest},
		{fmt.Sprint("10.9.8.7:", m.App.Port()), http.StatusBadRequest},
		{netip.AddrPortFrom(m.ServerIP, 15008).String(), http.StatusServiceUnavailable},
		{netip.AddrPortFrom(m.ServerIP, 9999).String(), http.StatusServiceUnavailable}, // nobody listens
		{"elsewhere.tools.svc.cluster.local:80", http.StatusServiceUnavailable},
	} {
		tunnel, err := d.Dial(t.Context(), m.Hop(c.authority), hbone.Header{})
		if err == nil {
			tunnel.Close()
			t.Errorf("authority %s was accepted", c.authority)
			continue
		}
		status, ok := errors.AsType[*hbone.StatusError](err)
		if !ok || status.Status != c.status {
			t.Errorf("authority %s: %v, not status %d", c.authority, err, c.status)
		}
	}
	tunnel, err := d.Dial(t.Context(), m.Hop(fmt.Sprintf("%s:%d", meshtest.Service, meshtest.ServicePort)), hbone.Header{})
	if err != nil {
		t.Fatalf("the service's own hostname: %v", err)
	}
	tunnel.Close()
}

// Where the app shares its address with other programs, only the ports that
// the workload serves lead there.
func TestASharedAppAddressLeadsOnlyToTheAppsPorts(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy, AppAddress: "127.0.0.1"})
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := other.Addr().(*net.TCPAddr).AddrPort().Port()
	tunnel, err := dialer(t, m, "agent").Dial(t.Context(), m.Hop(netip.AddrPortFrom(m.ServerIP, port).String()), hbone.Header{})
	if err == nil {
		tunnel.Close()
		t.Fatal("a port of another program was reached")
	}
	if status, ok := errors.AsType[*hbone.StatusError](err); !ok || status.Status != http.StatusServiceUnavailable {
		t.Fatalf("error is %v, not status 503", err)
	}
}

// post sends one HTTP request through the agent's listener and answers status and body.
func post(t *testing.T, m *meshtest.Mesh, body io.Reader, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+m.Agent+"/mcp", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("post: %v", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatalf("post: read answer: %v", err)
	}
	return res.StatusCode, string(text)
}

func TestWhatTwoPeersCouldReadDifferentlyIsRefused(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	server := &sample.Server{}
	serveMCP(t, m, server)
	const danger = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"delete_repository","arguments":{"repository":"a/b"}}}`
	for _, c := range []struct {
		name, body string
		header     map[string]string
		status     []int
	}{
		{"duplicate keys", danger, nil, []int{200, 400}},
		{"a batch", `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`, nil, []int{200, 400}},
		{"a gzip body", "\x1f\x8b", map[string]string{"Content-Encoding": "gzip"}, []int{415}},
		{"another content type", `{}`, map[string]string{"Content-Type": "text/plain"}, []int{415, 400}},
	} {
		status, answer := post(t, m, strings.NewReader(c.body), c.header)
		if !slices.Contains(c.status, status) || status == 200 && !strings.Contains(answer, `"error"`) {
			t.Errorf("%s: status %d %s", c.name, status, answer)
		}
	}
	if n := server.Executed(); n != 0 {
		t.Fatalf("the server ran %d calls", n)
	}
}

func TestABodyOf50MBIsRefused(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	body := append([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"`), bytes.Repeat([]byte("a"), 50<<20)...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+m.Agent+"/mcp", bytes.NewReader(append(body, `"}}}`...)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}, Timeout: 20 * time.Second}
	req.Header.Set("Expect", "100-continue")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("status %d, not 413", res.StatusCode)
	}
}

// A port that is declared to speak MCP is closed, not open, when the policy
// that governed it is gone or selects something else by mistake.
func TestADeclaredMCPPortWithoutAPolicyIsClosed(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy, DeclareMCP: true})
	server := &sample.Server{}
	serveMCP(t, m, server)
	a := connect(t, m, "2025-11-25")
	echo := sample.Command{Call: "echo", Arguments: map[string]any{"text": "x"}}
	if err := wantText(a.Do(t.Context(), echo), "x"); err != nil {
		t.Fatal(err)
	}
	m.WritePolicy(strings.Replace(policy, "namespace: tools}", "namespace: toolz}", 1))
	m.Eventually(func() error {
		if r := a.Do(t.Context(), echo); r.Code == 0 {
			return fmt.Errorf("still answered: %+v", r)
		}
		return nil
	})
	if page, err := get("http://" + netip.AddrPortFrom(m.ServerIP, 15000).String() + "/"); err != nil || !strings.Contains(page, fmt.Sprintf("closed port</th><td>%d: it speaks MCP", m.App.Port())) {
		t.Errorf("the status page does not tell of the closed port: %v: %s", err, page)
	}
	before := server.Executed()
	for _, tool := range []string{"echo", "delete_repository"} {
		a.Do(t.Context(), sample.Command{Call: tool, Arguments: map[string]any{"text": "x", "repository": "a/b"}})
	}
	if server.Executed() != before {
		t.Fatal("a tool was run without any policy")
	}
	m.WritePolicy(policy) // and all is as before, so that the agent can end its session
	m.Eventually(func() error { return wantText(a.Do(t.Context(), echo), "x") })
}
