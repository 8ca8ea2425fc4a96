package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

var (
	planner = mesh.NewPrincipal("cluster.local", "agents", "planner")
	github  = mesh.NewPrincipal("cluster.local", "tools", "github")

	plannerPod = &mesh.Workload{Name: "planner-1", Namespace: "agents", ServiceAccount: "planner", TrustDomain: "cluster.local", ClusterID: "Kubernetes",
		WorkloadName: "planner", CanonicalName: "planner", CanonicalRevision: "v1", Locality: mesh.Locality{Region: "r1", Zone: "z1"}}
	githubPod = &mesh.Workload{Name: "github-1", Namespace: "tools", ServiceAccount: "github", TrustDomain: "cluster.local", ClusterID: "Kubernetes",
		WorkloadName: "github", CanonicalName: "github", CanonicalRevision: "v2"}
	githubService = mesh.Name{Namespace: "tools", Hostname: "github.tools.svc.cluster.local"}
	githubSelf    = mesh.Self{Principal: github, Name: "github-1", Namespace: "tools", ClusterID: "Kubernetes"}
)

// A bench is a recorder whose logs can be read once it is closed.
type bench struct {
	*Recorder
	access, audit bytes.Buffer
}

func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	b := &bench{}
	c.AccessLog, c.Audit = &b.access, &b.audit
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Recorder = r
	return b
}

func (b *bench) close(t testing.TB) (access, audit []string) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return linesOf(b.access.String()), linesOf(b.audit.String())
}

func linesOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

// inbound is a connection from the planner to the github server, allowed.
func (b *bench) inbound() *Connection {
	c := b.Connection(policy.Inbound, netip.MustParseAddrPort("127.0.15.21:40001"))
	c.Source, c.SourceWorkload = planner, plannerPod
	c.DestinationWorkload, c.Service = githubPod, githubService
	c.DestinationAddr, c.HBONEAddr = netip.MustParseAddrPort("127.0.15.22:15008"), "127.0.15.22:8080"
	c.Decision = policy.Decision{Allowed: true, Policy: "tools/l4", Rule: "0", Version: "7"}
	c.Snapshot = 3
	return c
}

func call(c *Connection, d policy.Decision) *Call {
	k := c.Call()
	k.Method, k.Protocol, k.Session, k.ID = "tools/call", "2025-11-25", "secret-session", `"a\u0062c"`
	k.Object = policy.Object{Kind: policy.KindTool, Name: "create_issue"}
	k.Status, k.RequestBytes, k.ResponseBytes, k.Snapshot = 200, 120, 340, 4
	k.Decision = d
	return k
}

var denied = policy.Decision{Policy: "tools/github", Rule: "writers", Version: "9", Reason: "no rule allows agents/planner to call create_issue",
	Audits: []policy.Audit{{Policy: "tools/dry", Rule: "r", Version: "1", Action: policy.ActionRequire}}}

func TestRecordsReadAsDocumented(t *testing.T) {
	for _, tt := range []struct {
		name   string
		format Format
		record func(b *bench)
		access string
		audit  string
	}{
		{
			"connection", FormatText,
			func(b *bench) {
				c := b.inbound()
				time.Sleep(1500 * time.Microsecond)
				c.BytesSent, c.BytesReceived = 518, 67
				c.Close(nil)
			},
			`2000-01-01T00:00:00.001500Z	info	access	connection complete	src.addr=127.0.15.21:40001 src.workload="planner-1" src.namespace="agents" src.identity="spiffe://cluster.local/ns/agents/sa/planner" src.cluster="Kubernetes" dst.addr=127.0.15.22:15008 dst.hbone_addr=127.0.15.22:8080 dst.service="github.tools.svc.cluster.local" dst.workload="github-1" dst.namespace="tools" dst.identity="spiffe://cluster.local/ns/tools/sa/github" dst.cluster="Kubernetes" direction="inbound" bytes_sent=518 bytes_recv=67 duration="1ms" decision="allow" policy="tools/l4" rule="0" policy_version="7" snapshot=3`,
			`{"time":"2000-01-01T00:00:00.001500Z","event":"connection","direction":"inbound","source":{"identity":"spiffe://cluster.local/ns/agents/sa/planner","namespace":"agents","workload":"planner-1","cluster":"Kubernetes","address":"127.0.15.21:40001"},"destination":{"identity":"spiffe://cluster.local/ns/tools/sa/github","namespace":"tools","workload":"github-1","cluster":"Kubernetes","address":"127.0.15.22:15008","authority":"127.0.15.22:8080","service":"github.tools.svc.cluster.local"},"decision":{"allowed":true,"policy":"tools/l4","rule":"0","version":"7"},"snapshot":3,"result":{},"bytes":{"sent":518,"received":67},"durationMicros":1500}`,
		},
		{
			"connection in JSON", FormatJSON,
			func(b *bench) { c := b.inbound(); c.Flags = "CONNECT"; c.Close(errors.New("dial: refused")) },
			`{"level":"error","time":"2000-01-01T00:00:00.000000Z","scope":"access","message":"connection complete","src.addr":"127.0.15.21:40001","src.workload":"planner-1","src.namespace":"agents","src.identity":"spiffe://cluster.local/ns/agents/sa/planner","src.cluster":"Kubernetes","dst.addr":"127.0.15.22:15008","dst.hbone_addr":"127.0.15.22:8080","dst.service":"github.tools.svc.cluster.local","dst.workload":"github-1","dst.namespace":"tools","dst.identity":"spiffe://cluster.local/ns/tools/sa/github","dst.cluster":"Kubernetes","direction":"inbound","bytes_sent":0,"bytes_recv":0,"duration":"0ms","error":"dial: refused","decision":"allow","policy":"tools/l4","rule":"0","policy_version":"7","snapshot":3,"flags":"CONNECT"}`,
			`{"time":"2000-01-01T00:00:00.000000Z","event":"connection","direction":"inbound","source":{"identity":"spiffe://cluster.local/ns/agents/sa/planner","namespace":"agents","workload":"planner-1","cluster":"Kubernetes","address":"127.0.15.21:40001"},"destination":{"identity":"spiffe://cluster.local/ns/tools/sa/github","namespace":"tools","workload":"github-1","cluster":"Kubernetes","address":"127.0.15.22:15008","authority":"127.0.15.22:8080","service":"github.tools.svc.cluster.local"},"decision":{"allowed":true,"policy":"tools/l4","rule":"0","version":"7"},"snapshot":3,"result":{"flags":"CONNECT","error":"dial: refused"},"bytes":{"sent":0,"received":0},"durationMicros":0}`,
		},
		{
			"early failure", FormatText,
			func(b *bench) {
				c := b.Connection(policy.Inbound, netip.MustParseAddrPort("[::ffff:127.0.0.9]:555"))
				c.DestinationAddr = netip.MustParseAddrPort("127.0.15.22:15008")
				c.Close(errors.New("tls: first record does not look like a TLS handshake"))
			},
			`2000-01-01T00:00:00.000000Z	warn	access	connection failed	src.addr=127.0.0.9:555 dst.addr=127.0.15.22:15008 direction="inbound" error="tls: first record does not look like a TLS handshake"`,
			`{"time":"2000-01-01T00:00:00.000000Z","event":"connection","direction":"inbound","source":{"address":"127.0.0.9:555"},"destination":{"address":"127.0.15.22:15008"},"decision":{"allowed":false},"snapshot":0,"result":{"error":"tls: first record does not look like a TLS handshake"},"bytes":{"sent":0,"received":0},"durationMicros":0}`,
		},
		{
			"denied call", FormatText,
			func(b *bench) {
				k := call(b.inbound(), denied)
				k.ErrorCode, k.Hidden, k.Arguments = -32602, 2, []byte(`{"title":"x"}`)
				time.Sleep(42 * time.Microsecond)
				k.Finish(nil)
			},
			`2000-01-01T00:00:00.000042Z	error	access	call complete	src.addr=127.0.15.21:40001 src.workload="planner-1" src.namespace="agents" src.identity="spiffe://cluster.local/ns/agents/sa/planner" src.cluster="Kubernetes" dst.addr=127.0.15.22:15008 dst.hbone_addr=127.0.15.22:8080 dst.service="github.tools.svc.cluster.local" dst.workload="github-1" dst.namespace="tools" dst.identity="spiffe://cluster.local/ns/tools/sa/github" dst.cluster="Kubernetes" direction="inbound" bytes_sent=340 bytes_recv=120 duration="0ms" mcp.protocol="2025-11-25" mcp.method="tools/call" mcp.kind="tool" mcp.name="create_issue" mcp.id="\"a\\u0062c\"" mcp.session="eab74c416d01ec36" status=200 error_code=-32602 hidden=2 decision="deny" policy="tools/github" rule="writers" policy_version="9" reason="no rule allows agents/planner to call create_issue" snapshot=4`,
			`{"time":"2000-01-01T00:00:00.000042Z","event":"call","direction":"inbound","source":{"identity":"spiffe://cluster.local/ns/agents/sa/planner","namespace":"agents","workload":"planner-1","cluster":"Kubernetes","address":"127.0.15.21:40001"},"destination":{"identity":"spiffe://cluster.local/ns/tools/sa/github","namespace":"tools","workload":"github-1","cluster":"Kubernetes","address":"127.0.15.22:15008","authority":"127.0.15.22:8080","service":"github.tools.svc.cluster.local"},"mcp":{"protocol":"2025-11-25","session":"eab74c416d01ec36","method":"tools/call","kind":"tool","name":"create_issue","id":"abc","arguments":"{\"title\":\"x\"}"},"decision":{"allowed":false,"policy":"tools/github","rule":"writers","version":"9","reason":"no rule allows agents/planner to call create_issue","audits":[{"action":"require","policy":"tools/dry","rule":"r","version":"1"}]},"snapshot":4,"result":{"status":200,"code":-32602,"hidden":2},"bytes":{"sent":340,"received":120},"durationMicros":42}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{Format: tt.format, Self: githubSelf})
				tt.record(b)
				access, audit := b.close(t)
				if got := strings.Join(access, "\n"); got != tt.access {
					t.Errorf("access log\n got %s\nwant %s", got, tt.access)
				}
				if got := strings.Join(audit, "\n"); got != tt.audit {
					t.Errorf("audit\n got %s\nwant %s", got, tt.audit)
				}
				validateAudit(t, audit)
			})
		})
	}
}

func TestConnectionIsWrittenOnce(t *testing.T) {
	b := newBench(t, Config{})
	c := b.inbound()
	k := call(c, policy.Decision{Allowed: true})
	k.Finish(nil)
	k.Finish(errors.New("again"))
	c.Close(nil)
	c.Close(errors.New("again"))
	access, audit := b.close(t)
	if len(access) != 2 || len(audit) != 2 {
		t.Errorf("%d access lines and %d audit records, want 2 and 2", len(access), len(audit))
	}
}

func TestRecordsWithoutRecorderGoNowhere(t *testing.T) {
	var r *Recorder
	for _, c := range []*Connection{{}, r.Connection(policy.Inbound, netip.AddrPort{})} {
		c.Open()
		c.Sent(1)
		c.Received(1)
		c.Call().Finish(nil)
		c.Close(errors.New("x"))
	}
	(*Connection)(nil).Call().Finish(nil)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestLevelFiltersAccessLogButNotAudit(t *testing.T) {
	for _, tt := range []struct {
		level slog.Level
		want  []string
	}{
		{slog.LevelDebug, []string{"connection opened", "connection complete", "connection complete"}},
		{slog.LevelInfo, []string{"connection complete", "connection complete"}},
		{slog.LevelError, []string{"connection complete"}},
	} {
		b := newBench(t, Config{Level: tt.level})
		c := b.inbound()
		c.Close(nil)
		c = b.inbound()
		c.recorder.level = max(tt.level, slog.LevelInfo) // open it quietly
		c.Close(errors.New("reset"))
		access, audit := b.close(t)
		var got []string
		for _, l := range access {
			got = append(got, strings.Split(l, "\t")[3])
		}
		if strings.Join(got, ",") != strings.Join(tt.want, ",") {
			t.Errorf("at %v: %q, want %q", tt.level, got, tt.want)
		}
		if len(audit) != 2 {
			t.Errorf("at %v: %d audit records, want 2", tt.level, len(audit))
		}
	}
}

func TestUndecidedConnectionIsNotAudited(t *testing.T) {
	b := newBench(t, Config{})
	c := b.Connection(policy.Outbound, netip.MustParseAddrPort("127.0.0.1:1"))
	c.Close(nil)
	access, audit := b.close(t)
	if len(access) != 1 || len(audit) != 0 {
		t.Errorf("%d access lines and %d audit records, want 1 and 0", len(access), len(audit))
	}
}

func TestOwnIdentityIsRecordedOnlyIfThePeerWasVerified(t *testing.T) {
	for _, tt := range []struct {
		destination mesh.Principal
		want        string
	}{{github, planner.String()}, {mesh.Principal{}, ""}} {
		b := newBench(t, Config{Self: mesh.Self{Principal: planner, Name: "planner-1", Namespace: "agents"}})
		c := b.Connection(policy.Outbound, netip.MustParseAddrPort("127.0.0.1:1"))
		c.Destination = tt.destination
		c.Close(nil)
		b.close(t)
		if got := c.Source.String(); got != tt.want {
			t.Errorf("to %v: source %q, want %q", tt.destination, got, tt.want)
		}
	}
}
