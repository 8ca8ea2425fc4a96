//go:build istiod && linux

package istiod_test

import (
	"context"
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

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

const (
	hostname = "server.tools.svc.cluster.local"
	appPort  = 9797 // no other program's usual one: who listens there on all addresses would be in the way
	patience = 30 * time.Second

	virtual = "10.96.77.7"
	nowhere = "10.96.77.8"

	outsideName = "outside.example"
)

// A town is two pods of a mesh that a real istiod runs: an agent with its
// sidecar and an MCP server with its own, both as processes.
type town struct {
	*testing.T
	*istiod.Testbed
	agent, server, successor netip.Addr // of the pods; the last one comes later

	outrigger string // the program
	app       *sample.Server
}

func newTown(t *testing.T) *town {
	base := [4]byte{127, byte(20 + rand.IntN(200)), byte(rand.IntN(256)), 0}
	at := func(last byte) netip.Addr { base[3] = last; return netip.AddrFrom4(base) }
	w := &town{T: t, Testbed: istiod.Start(t, istiod.Config{}), agent: at(11), server: at(21), successor: at(22), app: &sample.Server{}}
	w.build()
	w.apply(istiod.Namespace("agents"), istiod.Namespace("tools"),
		istiod.Pod{Namespace: "agents", Name: "agent-1", ServiceAccount: "agent", Address: w.agent.String(), HBONE: true}.YAML(),
		serverPod("server-1", w.server).YAML(),
		serverService("{}"))
	w.serve(w.server)
	w.sidecar("agents", "agent-1", w.agent, "--forward="+w.forward(8080)+"="+hostname+":80", "--forward="+w.forward(8081)+"="+virtual+":80",
		"--forward="+w.forward(8082)+"="+nowhere+":80", "--forward="+w.forward(8083)+"="+netip.AddrPortFrom(w.server, appPort).String(),
		"--forward="+w.forward(8084)+"="+outsideName+":80")
	w.sidecar("tools", "server-1", w.server, "--label=app=server", fmt.Sprint("--mcp-port=", appPort))
	for _, a := range []netip.Addr{w.agent, w.server} {
		w.eventually(func() error { return ready(a) })
	}
	return w
}

func serverPod(name string, ip netip.Addr) istiod.Pod {
	return istiod.Pod{Namespace: "tools", Name: name, ServiceAccount: "server", Address: ip.String(), HBONE: true, Labels: map[string]string{"app": "server"}}
}

// serverService is the server's service with labels.
func serverService(labels string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {namespace: tools, name: server, labels: %s}\n"+
		"spec: {clusterIP: %s, clusterIPs: [%[2]s], selector: {app: server}, ports: [{port: 80, targetPort: %[3]d, protocol: TCP}]}\n", labels, virtual, appPort)
}

// forward is where the agent calls to get to the service by its name (8080), to
// its virtual address (8081), to an address that nobody has (8082), to the pod
// (8083) and out of the mesh (8084).
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

// serve runs the MCP server where a pod's app is.
func (w *town) serve(ip netip.Addr) {
	w.Helper()
	ln, err := net.Listen("tcp", netip.AddrPortFrom(ip, appPort).String())
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

// sidecar runs `outrigger run` as in a pod, whose name is its service account's and a number.
func (w *town) sidecar(namespace, pod string, ip netip.Addr, flags ...string) {
	w.Helper()
	account, _, _ := strings.Cut(pod, "-")
	token, err := w.TokenFile(w.Context(), namespace, account)
	if err != nil {
		w.Fatal(err)
	}
	port := func(n uint16) string { return netip.AddrPortFrom(ip, n).String() }
	cmd := exec.Command(w.outrigger, append([]string{"run", "--drain-deadline=1s", "--outbound-listen=off", "--policy-carrier=ecds",
		"--hbone-listen=" + port(15008), "--plain-listen=" + port(15006), "--admin-listen=" + port(15000), "--metrics-listen=" + port(15020), "--ready-listen=" + port(15021)}, flags...)...)
	// What the injector sets, by Istio's names.
	cmd.Env = []string{"POD_NAME=" + pod, "POD_NAMESPACE=" + namespace, "SERVICE_ACCOUNT=" + account, "INSTANCE_IP=" + ip.String(),
		"XDS_ADDRESS=" + w.Secure, "XDS_ROOT_CA=" + w.RootFile, "ALT_XDS_HOSTNAME=" + istiod.ServerName, "AUTH_TOKEN=" + token}
	log, err := os.Create(filepath.Join(w.Dir, "sidecar-"+pod+".log"))
	if err != nil {
		w.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // if the test is killed
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait(), log.Close())
		if err != nil {
			w.Errorf("sidecar %s: %v", pod, err)
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
