//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mcp"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/cache"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/front"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// To compare two servers of your own:
//
//	go test -tags conformance ./pkg/meshtest/conformance -run Given -direct URL -proxied URL
var (
	direct  = flag.String("direct", os.Getenv("OUTRIGGER_DIRECT_URL"), "URL of an MCP server; $OUTRIGGER_DIRECT_URL")
	proxied = flag.String("proxied", os.Getenv("OUTRIGGER_PROXIED_URL"), "URL of the same server through a proxy; $OUTRIGGER_PROXIED_URL")
	only    = flag.String("requirements", "", "the one revision to check; all of them if empty")
	results = flag.String("results", "", "a file that the comparison of the URLs given is written to, as JSON")
)

// install makes sure that the suite is there.
var install = sync.OnceValues(func() (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("./install.sh")
	cmd.Env = append(os.Environ(), "OUTRIGGER_CACHE="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install.sh: %w: %s", err, out)
	}
	return dir, nil
})

func cached(t *testing.T) string {
	t.Helper()
	dir, err := install()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// everything starts the Go SDK's conformance server and returns its address.
func everything(t *testing.T, requirements string) string {
	t.Helper()
	addr := "127.0.0.1:" + front.FreePort(t)
	stateless := requirements >= "2026-07-28"
	cmd := exec.Command(filepath.Join(cached(t), "bin", "everything-server"), "-http", addr, fmt.Sprintf("-stateless=%v", stateless))
	var out bytes.Buffer
	if err := front.Await(addr, front.Run(t, cmd, &out)); err != nil {
		t.Fatalf("the server: %v: %s", err, out.Bytes())
	}
	return addr
}

// through starts a listener whose connections are inspected on their way to addr.
func through(t *testing.T, addr string, layers ...inspect.Layer) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	config := inspect.Config{
		Layers: layers,
		Upstream: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				config := config
				config.Conversation = &inspect.Conversation{
					Direction: policy.Inbound,
					Port:      policy.Port{Protocol: policy.ProtocolMCP},
					Record:    &telemetry.Connection{},
				}
				inspect.Serve(ctx, c, config) // what it says is in the suite's results
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		conns.Wait()
	})
	return ln.Addr().String()
}

// A liberal judge allows everything.
type liberal struct{}

func (liberal) Call(*policy.Call) policy.Decision {
	return policy.Decision{Allowed: true, Reason: "everything is allowed"}
}

func (liberal) Terms(policy.Direction, policy.Destination) policy.Terms { return policy.Terms{} }

func (liberal) Visible(*policy.Call, policy.Object) policy.Decision {
	return policy.Decision{Allowed: true, Reason: "everything is allowed"}
}

// fewest is how many of the suite's checks of a server pass at the least.
const fewest = 80

// equal compares, and fails if a check changed.
func equal(t *testing.T, requirements, direct, proxied string) *Comparison {
	t.Helper()
	c, err := Cached(cached(t)).CompareServers(t.Context(), requirements, direct, proxied)
	return judge(t, c, err)
}

// judge fails if a check changed.
func judge(t *testing.T, c *Comparison, err error) *Comparison {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Differences {
		t.Error(d)
	}
	for _, d := range c.Unsteady {
		t.Logf("unsteady: %v", d)
	}
	t.Logf("%s: direct %d passed, %d failed; proxied %d passed, %d failed", c.Requirements,
		c.Direct.Passed, c.Direct.Failed, c.Proxied.Passed, c.Proxied.Failed)
	return c
}

// enough fails if so few checks passed that it says little that none changed.
func enough(t *testing.T, c *Comparison, fewest int) {
	t.Helper()
	if c.Direct.Passed < fewest {
		t.Errorf("only %d checks passed", c.Direct.Passed)
	}
}

func revisions() []string {
	if *only != "" {
		return []string{*only}
	}
	return Requirements[:]
}

func TestSuiteFindsTheSameOfTheSameServer(t *testing.T) {
	for _, revision := range revisions() {
		url := "http://" + everything(t, revision) + "/"
		enough(t, equal(t, revision, url, url), fewest)
	}
}

func TestSuiteFindsTheSameThroughInspection(t *testing.T) {
	for _, revision := range revisions() {
		for name, layers := range map[string][]inspect.Layer{
			"HTTP": nil,
			"MCP":  {mcp.New(mcp.Config{Judge: func(*inspect.Exchange) mcp.Judge { return liberal{} }})},
		} {
			t.Run(revision+" "+name, func(t *testing.T) {
				addr := everything(t, revision)
				enough(t, equal(t, revision, "http://"+addr+"/", "http://"+through(t, addr, layers...)+"/"), fewest)
			})
		}
	}
}

// TestSuiteFindsTheSameOfTheURLsGiven compares -direct with -proxied.
func TestSuiteFindsTheSameOfTheURLsGiven(t *testing.T) {
	if *direct == "" && *proxied == "" {
		t.Log("no URLs were given with -direct and -proxied")
		return
	}
	var all []*Comparison
	for _, revision := range revisions() {
		all = append(all, equal(t, revision, *direct, *proxied))
	}
	if *results == "" {
		return
	}
	data, err := json.Marshal(all, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*results, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
