package route_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
)

// show writes a route in a line: kind, then hops "address authority expected",
// or the address alone.
func show(rt *route.Route, err error) string {
	for name, e := range map[string]error{
		"no endpoint": route.ErrNoEndpoint, "no route": route.ErrNoRoute, "plaintext refused": route.ErrPlaintext,
	} {
		if errors.Is(err, e) && !errors.Is(err, route.ErrWaypoint) && !errors.Is(err, route.ErrGateway) {
			return name
		}
	}
	switch {
	case errors.Is(err, route.ErrWaypoint):
		return "no waypoint"
	case errors.Is(err, route.ErrGateway):
		return "no gateway"
	case err != nil:
		return "unexpected: " + err.Error()
	}
	var b strings.Builder
	fmt.Fprint(&b, rt.Kind)
	for _, h := range rt.Hops {
		if h.Address.IsValid() {
			fmt.Fprint(&b, " ", h.Address)
		}
		fmt.Fprint(&b, " ", h.Authority)
		for _, p := range h.Expected {
			fmt.Fprint(&b, " ", p.Namespace(), "/", p.ServiceAccount())
		}
	}
	if len(rt.Hops) == 0 && rt.Address.IsValid() {
		fmt.Fprint(&b, " ", rt.Address)
	}
	if rt.Hostname != "" {
		fmt.Fprint(&b, " ", rt.Hostname, ":", rt.Port)
	}
	return b.String()
}

type scenario struct {
	fact   string
	world  []any
	dial   string // address:port, or name:port
	config route.Config
	want   string
}

func (s scenario) destination() route.Destination {
	if i := strings.LastIndex(s.dial, ":"); strings.ContainsAny(s.dial[:i], "abcdefghijklmnopqrstuvwxyz") && !strings.Contains(s.dial, "[") {
		var port uint16
		fmt.Sscan(s.dial[i+1:], &port)
		return route.Destination{Hostname: s.dial[:i], Port: port}
	}
	return route.Destination{Address: at(s.dial)}
}

func run(t *testing.T, all []scenario) {
	for _, s := range all {
		t.Run(s.fact, func(t *testing.T) {
			rt, err := resolver(t, s.config).Resolve(snapshot(s.world...), s.destination())
			if got := show(rt, err); got != s.want {
				t.Errorf("got  %s\nwant %s\n%v", got, s.want, err)
			}
			if rt != nil && len(rt.Hops) > 0 && rt.Address != rt.Hops[0].Address {
				t.Errorf("dials %v, first hop is %v", rt.Address, rt.Hops[0].Address)
			}
		})
	}
}

func TestDirectRoutes(t *testing.T) {
	github := workload("github", "10.0.0.2", in("github"))
	svc := service("github", "10.1.0.1")
	everything := []any{github, svc}
	named := "tunnel 10.0.0.2:15008 10.0.0.2:8080 tools/github"
	run(t, []scenario{
		{"unknown address is refused", nil, "8.8.8.8:53", route.Config{}, "no route"},
		{"unknown address passes if configured", nil, "8.8.8.8:53", route.Config{AllowUnknown: true}, "passthrough 8.8.8.8:53"},
		{"no address is no destination", nil, "0.0.0.0:0", route.Config{}, "no route"},
		{"workload by address", everything, "10.0.0.2:9000", route.Config{}, "tunnel 10.0.0.2:15008 10.0.0.2:9000 tools/github"},
		{"workload by mapped address", everything, "[::ffff:10.0.0.2]:9000", route.Config{}, "tunnel 10.0.0.2:15008 10.0.0.2:9000 tools/github"},
		{"HBONE port is configured", everything, "10.0.0.2:9000", route.Config{HBONEPort: 16008}, "tunnel 10.0.0.2:16008 10.0.0.2:9000 tools/github"},
		{"service by VIP maps the port", everything, "10.1.0.1:80", route.Config{}, named},
		{"service by name", everything, "github.tools.svc.cluster.local:80", route.Config{}, named},
		{"service by name, any case, final dot", everything, "GitHub.tools.svc.cluster.local.:80", route.Config{}, named},
		{"service by short name", everything, "github.tools:80", route.Config{}, named},
		{"service by shorter name of another namespace", everything, "github:80", route.Config{}, "no route"},
		{"name nobody has", everything, "gitlab.tools:80", route.Config{AllowUnknown: true}, "no route"},
		{"port the service does not have", everything, "10.1.0.1:81", route.Config{AllowUnknown: true}, "no endpoint"},
		{"service without endpoints", []any{svc}, "10.1.0.1:80", route.Config{AllowUnknown: true}, "no endpoint"},
		{"unhealthy endpoint", []any{svc, workload("github", "10.0.0.2", in("github"), unhealthy)}, "10.1.0.1:80", route.Config{}, "no endpoint"},
		{"unhealthy endpoint allowed", []any{service("github", "10.1.0.1", func(s *mesh.Service) { s.LoadBalancing.AllowUnhealthy = true }),
			workload("github", "10.0.0.2", in("github"), unhealthy)}, "10.1.0.1:80", route.Config{}, named},
		{"unhealthy workload by address", []any{workload("github", "10.0.0.2", unhealthy)}, "10.0.0.2:1", route.Config{}, "tunnel 10.0.0.2:15008 10.0.0.2:1 tools/github"},
		{"service vouches for identities", []any{github, service("github", "10.1.0.1", vouches(account("tools", "old"), account("tools", "github")))},
			"10.1.0.1:80", route.Config{}, named + " tools/old"},
		{"endpoint outside the mesh", []any{svc, workload("github", "10.0.0.2", in("github"), plain)}, "10.1.0.1:80", route.Config{}, "plain 10.0.0.2:8080"},
		{"endpoint outside the mesh refused", []any{svc, workload("github", "10.0.0.2", in("github"), plain)}, "10.1.0.1:80",
			route.Config{RefusePlaintext: true}, "plaintext refused"},
		{"endpoint with a hostname", []any{svc, workload("github", "", in("github"), plain, func(w *mesh.Workload) { w.Hostname = "api.github.com" })},
			"10.1.0.1:80", route.Config{}, "plain api.github.com:8080"},
		{"passthrough service", []any{github, service("github", "10.1.0.1", balance(mesh.BalancePassthrough))}, "10.1.0.1:80", route.Config{}, "passthrough 10.1.0.1:80"},
		{"passthrough service by name", []any{github, service("github", "10.1.0.1", balance(mesh.BalancePassthrough))}, "github.tools:80", route.Config{}, "no route"},
		{"passthrough service refused", []any{service("github", "10.1.0.1", balance(mesh.BalancePassthrough))}, "10.1.0.1:80", route.Config{RefusePlaintext: true}, "plaintext refused"},
		{"service of a range", []any{github, service("github", "10.1.0.0/16")}, "10.1.2.3:80", route.Config{}, named},
		{"workload goes before a range that holds it", []any{github, service("other", "10.0.0.0/8", over(byName("gone")))}, "10.0.0.2:80", route.Config{},
			"tunnel 10.0.0.2:15008 10.0.0.2:80 tools/github"},
		{"VIP goes before a workload with that address", []any{workload("decoy", "10.1.0.1"), github, svc}, "10.1.0.1:80", route.Config{}, named},
		{"private service of another namespace", []any{github, service("github", "10.1.0.1", func(s *mesh.Service) { s.NamespaceOnly = true })},
			"10.1.0.1:80", route.Config{}, "no route"},
		{"host network is not known by address", []any{workload("node", "10.0.0.9", func(w *mesh.Workload) { w.HostNetwork = true })}, "10.0.0.9:80", route.Config{}, "no route"},
		{"address family follows what was dialled", []any{service("github", "fd00::1:1"),
			workload("github", "10.0.0.2", in("github"), func(w *mesh.Workload) { w.Addresses = append(w.Addresses, ip("fd00::2")) })},
			"[fd00::1:1]:80", route.Config{}, "tunnel [fd00::2]:15008 [fd00::2]:8080 tools/github"},
		{"address family that the service has not", []any{github, service("github", "10.1.0.1", func(s *mesh.Service) { s.IPFamilies = "IPV6_ONLY" })},
			"10.1.0.1:80", route.Config{}, "no endpoint"},
		{"workload that cannot be weighed", []any{svc, workload("github", "10.0.0.2", in("github"), func(w *mesh.Workload) { w.Capacity = 0 })}, "10.1.0.1:80", route.Config{}, "no endpoint"},
	})
}

func TestWaypointRoutes(t *testing.T) {
	github := workload("github", "10.0.0.2", in("github"))
	gate := workload("gate", "10.0.0.7", in("gate"))
	gates := service("gate", "10.1.0.7", vouches(account("tools", "gates")))
	through := "waypoint 10.0.0.7:15008 10.1.0.1:80 tools/gate tools/gates"
	run(t, []scenario{
		{"service behind a waypoint by name", []any{github, gate, gates, service("github", "10.1.0.1", over(byName("gate")))}, "10.1.0.1:80", route.Config{}, through},
		{"dialled by name", []any{github, gate, gates, service("github", "10.1.0.1", over(byName("gate")))}, "github.tools:80", route.Config{}, through},
		{"dialled by name, service has no VIP", []any{github, gate, gates, service("github", "", over(byName("gate")))}, "github.tools:80", route.Config{},
			"waypoint 10.0.0.7:15008 github.tools.svc.cluster.local:80 tools/gate tools/gates"},
		{"waypoint by its VIP", []any{github, gate, gates, service("github", "10.1.0.1", over(byAddress("10.1.0.7")))}, "10.1.0.1:80", route.Config{}, through},
		{"waypoint by its own address", []any{github, gate, service("github", "10.1.0.1", over(byAddress("10.0.0.7")))}, "10.1.0.1:80", route.Config{},
			"waypoint 10.0.0.7:15008 10.1.0.1:80 tools/gate"},
		{"service without endpoints is the waypoint's business", []any{gate, gates, service("github", "10.1.0.1", over(byName("gate")))}, "10.1.0.1:80", route.Config{}, through},
		{"missing waypoint is not bypassed", []any{github, service("github", "10.1.0.1", over(byName("gate")))}, "10.1.0.1:80", route.Config{AllowUnknown: true}, "no waypoint"},
		{"missing waypoint address is not bypassed", []any{github, service("github", "10.1.0.1", over(byAddress("10.0.0.7")))}, "10.1.0.1:80", route.Config{}, "no waypoint"},
		{"waypoint without endpoints is not bypassed", []any{github, gates, service("github", "10.1.0.1", over(byName("gate")))}, "10.1.0.1:80", route.Config{}, "no waypoint"},
		{"passthrough does not pass a waypoint by", []any{service("github", "10.1.0.1", over(byName("gate")), balance(mesh.BalancePassthrough))}, "10.1.0.1:80", route.Config{}, "no waypoint"},
		{"workload behind a waypoint", []any{gate, gates, workload("github", "10.0.0.2", behind(byName("gate")))}, "10.0.0.2:9000", route.Config{},
			"waypoint 10.0.0.7:15008 10.0.0.2:9000 tools/gate tools/gates"},
		{"workload's missing waypoint is not bypassed", []any{workload("github", "10.0.0.2", behind(byName("gate")))}, "10.0.0.2:9000", route.Config{AllowUnknown: true}, "no waypoint"},
		{"a workload's waypoint does not stand before its service", []any{workload("github", "10.0.0.2", in("github"), behind(byName("gate"))), gate, gates, service("github", "10.1.0.1")},
			"10.1.0.1:80", route.Config{}, "tunnel 10.0.0.2:15008 10.0.0.2:8080 tools/github"},
		{"we are the waypoint", []any{workload("github", "10.0.0.2", behind(byAddress("10.0.0.1")))}, "10.0.0.2:9000", route.Config{},
			"tunnel 10.0.0.2:15008 10.0.0.2:9000 tools/github"},
		{"waypoint with our identity elsewhere", []any{github, service("github", "10.1.0.1", over(byAddress("10.0.0.8"))),
			workload("twin", "10.0.0.8", func(w *mesh.Workload) { w.Namespace, w.ServiceAccount = "agents", "planner" })},
			"10.1.0.1:80", route.Config{}, "waypoint 10.0.0.8:15008 10.1.0.1:80 agents/planner"},
		{"weighted waypoints of no weight", []any{github, gate, gates, service("github", "10.1.0.1", over(byName("gate")), func(s *mesh.Service) {
			s.WeightedWaypoints = []mesh.WeightedWaypoint{{Gateway: *byName("gone")}}
		})}, "10.1.0.1:80", route.Config{}, through},
	})
}

// What was resolved when there was no waypoint yet, or another place had the
// address, passes it by.
func TestAnOpenConnectionPassesAWaypointBy(t *testing.T) {
	github, gate, gates := workload("github", "10.0.0.2", in("github")), workload("gate", "10.0.0.7", in("gate")), service("gate", "10.1.0.7")
	me := func(w *mesh.Workload) {
		w.UID, w.Namespace, w.ServiceAccount, w.Addresses = "c1//Pod/agents/planner-2", "agents", "planner", planner.Addresses
	}
	for _, s := range []struct {
		name  string
		world []any
		to    route.Destination
		want  string
	}{
		{"none", []any{github, service("github", "10.1.0.1")}, route.Destination{Address: at("10.1.0.1:80")}, ""},
		{"the service's", []any{github, gate, gates, service("github", "10.1.0.1", over(byName("gate")))}, route.Destination{Address: at("10.1.0.1:80")}, tools("gate").String()},
		{"the service's, dialled by name", []any{github, gate, gates, service("github", "", over(byName("gate")))}, route.Destination{Hostname: "github.tools", Port: 80}, tools("gate").String()},
		{"one that is missing", []any{github, service("github", "10.1.0.1", over(byAddress("10.0.0.7")))}, route.Destination{Address: at("10.1.0.1:80")}, "10.0.0.7"},
		{"a weighted one", []any{github, service("github", "10.1.0.1", func(s *mesh.Service) {
			s.WeightedWaypoints = []mesh.WeightedWaypoint{{Gateway: *byName("gate"), Weight: 1}}
		})}, route.Destination{Address: at("10.1.0.1:80")}, tools("gate").String()},
		{"the workload's", []any{workload("github", "10.0.0.2", behind(byName("gate")))}, route.Destination{Address: at("10.0.0.2:9000")}, tools("gate").String()},
		{"the workload's is not its service's", []any{workload("github", "10.0.0.2", in("github"), behind(byName("gate"))), service("github", "10.1.0.1")},
			route.Destination{Address: at("10.1.0.1:80")}, ""},
		{"ourselves by address", []any{workload("github", "10.0.0.2", behind(byAddress("10.0.0.1")))}, route.Destination{Address: at("10.0.0.2:9000")}, ""},
		{"ourselves beside another", []any{gate, gates, workload("us", "", in("gate"), me), workload("github", "10.0.0.2", behind(byName("gate")))}, route.Destination{Address: at("10.0.0.2:9000")}, ""},
		{"what is gone", nil, route.Destination{Address: at("10.0.0.2:9000")}, ""},
		{"a name that is gone", nil, route.Destination{Hostname: "github.tools", Port: 80}, ""},
	} {
		if got := resolver(t, route.Config{}).Passes(snapshot(s.world...), s.to); got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
	}
}

// BenchmarkPasses is asked about every open connection after every change.
func BenchmarkPasses(b *testing.B) {
	snap := snapshot(service("github", "10.1.0.1"), workload("github", "10.0.0.2", in("github")))
	r := resolver(b, route.Config{})
	for name, d := range map[string]route.Destination{"address": {Address: at("10.1.0.1:80")}, "name": {Hostname: "github.tools.svc.cluster.local", Port: 80}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r.Passes(snap, d) != "" {
					b.Fatal("there is a waypoint")
				}
			}
		})
	}
}

func TestGatewayRoutes(t *testing.T) {
	border := workload("border", "10.0.0.9", in("border"))
	borders := service("border", "10.1.0.9")
	sans := vouches(account("tools", "github"))
	name := "github.tools.svc.cluster.local:80"
	through := "gateway 10.0.0.9:15008 " + name + " tools/border " + name + " tools/github"
	remote := workload("github", "", in("github"), far(byName("border")))
	run(t, []scenario{
		{"endpoint in another network", []any{remote, border, borders, service("github", "10.1.0.1", sans)}, "10.1.0.1:80", route.Config{}, through},
		{"gateway by address", []any{workload("github", "", in("github"), far(byAddress("10.0.0.9"))), border, service("github", "10.1.0.1", sans)}, "10.1.0.1:80", route.Config{}, through},
		{"inner identities are the service's alone", []any{remote, border, borders, service("github", "10.1.0.1")}, "10.1.0.1:80", route.Config{},
			"gateway 10.0.0.9:15008 " + name + " tools/border " + name},
		{"no gateway", []any{workload("github", "10.0.0.2", in("github"), far(nil)), service("github", "10.1.0.1", sans)}, "10.1.0.1:80", route.Config{AllowUnknown: true}, "no endpoint"},
		{"gateway that is not there", []any{remote, service("github", "10.1.0.1", sans)}, "10.1.0.1:80", route.Config{AllowUnknown: true}, "no gateway"},
		{"waypoint in another network", []any{workload("gate", "", in("gate"), far(byName("border"))), border, borders,
			service("gate", "", vouches(account("tools", "gate"))), service("github", "10.1.0.1", sans, over(byName("gate")))},
			"10.1.0.1:80", route.Config{}, through + " tools/gate"},
		{"near endpoint goes before a far one", []any{remote, workload("near", "10.0.0.3", in("github")), border, borders,
			service("github", "10.1.0.1", sans, balance(mesh.BalanceFailover, mesh.ScopeNetwork))}, "10.1.0.1:80", route.Config{},
			"tunnel 10.0.0.3:15008 10.0.0.3:8080 tools/near tools/github"},
	})
}

func TestLocality(t *testing.T) {
	place := func(region, zone, subzone string) func(*mesh.Workload) {
		return func(w *mesh.Workload) { w.Locality = mesh.Locality{Region: region, Zone: zone, Subzone: subzone} }
	}
	zone := workload("zone", "10.0.0.2", in("github"), place("r1", "z1", "s2"))
	region := workload("region", "10.0.0.3", in("github"), place("r1", "z2", "s1"))
	away := workload("away", "10.0.0.4", in("github"), place("r2", "z1", "s1"))
	order := []mesh.Scope{mesh.ScopeRegion, mesh.ScopeZone, mesh.ScopeSubzone}
	failover, strict := balance(mesh.BalanceFailover, order...), balance(mesh.BalanceStrict, order...)
	hop := func(name, address string) string {
		return fmt.Sprintf("tunnel %s:15008 %s:8080 tools/%s", address, address, name)
	}
	border := []any{workload("border", "10.0.0.9", in("border")), service("border", "10.1.0.9")}
	farNear := workload("far-near", "", in("github"), far(byName("border")), place("r1", "z1", "s1"))
	farAway := workload("far-away", "", in("github"), far(byName("gone")), place("r2", "z1", "s1"))
	run(t, []scenario{
		{"best zone", []any{zone, region, away, service("github", "10.1.0.1", failover)}, "10.1.0.1:80", route.Config{}, hop("zone", "10.0.0.2")},
		{"best region", []any{region, away, service("github", "10.1.0.1", failover)}, "10.1.0.1:80", route.Config{}, hop("region", "10.0.0.3")},
		{"a mismatch ends the comparison", []any{away, service("github", "10.1.0.1", failover)}, "10.1.0.1:80", route.Config{}, hop("away", "10.0.0.4")},
		{"strict wants all", []any{zone, region, away, service("github", "10.1.0.1", strict)}, "10.1.0.1:80", route.Config{}, "no endpoint"},
		{"strict with all", []any{workload("same", "10.0.0.5", in("github"), place("r1", "z1", "s1")), region, service("github", "10.1.0.1", strict)}, "10.1.0.1:80", route.Config{}, hop("same", "10.0.0.5")},
		{"strict node", []any{workload("same", "10.0.0.5", in("github"), func(w *mesh.Workload) { w.Node = "n1" }), region,
			service("github", "10.1.0.1", balance(mesh.BalanceStrict, mesh.ScopeNode, mesh.ScopeCluster))}, "10.1.0.1:80", route.Config{}, hop("same", "10.0.0.5")},
		{"another network first in order is still compared", append(border, farNear, farAway,
			service("github", "10.1.0.1", balance(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion))), "10.1.0.1:80", route.Config{},
			"gateway 10.0.0.9:15008 github.tools.svc.cluster.local:80 tools/border github.tools.svc.cluster.local:80"},
	})
}

// Every value that the random source may give leads to one endpoint, as often
// as its capacity says.
func TestChoiceIsWeighted(t *testing.T) {
	snap := snapshot(service("github", "10.1.0.1"),
		workload("a", "10.0.0.2", in("github")),
		workload("b", "10.0.0.3", in("github"), func(w *mesh.Workload) { w.Capacity = 3 }))
	waypoints := snapshot(workload("gate", "10.0.0.7", in("gate")), service("gate", ""), workload("gate2", "10.0.0.8", in("gate2")), service("gate2", ""),
		service("github", "10.1.0.1", func(s *mesh.Service) {
			s.WeightedWaypoints = []mesh.WeightedWaypoint{{Gateway: *byName("gate"), Weight: 1}, {Gateway: *byName("gate2"), Weight: 3}}
		}))
	got := map[string]int{}
	for i := range uint64(4) {
		r := resolver(t, route.Config{Random: func(n uint64) uint64 { return i % n }})
		for _, s := range []*route.Route{must(r.Resolve(snap, route.Destination{Address: at("10.1.0.1:80")})), must(r.Resolve(waypoints, route.Destination{Address: at("10.1.0.1:80")}))} {
			got[strings.TrimPrefix(s.Target, "c1//Pod/tools/")]++
		}
	}
	if fmt.Sprint(got) != "map[a:1 b:3 gate:1 gate2:3]" {
		t.Errorf("chose %v", got)
	}
}

func must(rt *route.Route, err error) *route.Route {
	if err != nil {
		panic(err)
	}
	return rt
}

func TestRetryAvoidsWhatFailed(t *testing.T) {
	snap := snapshot(service("github", "10.1.0.1"), workload("a", "10.0.0.2", in("github")), workload("b", "10.0.0.3", in("github")), workload("c", "10.0.0.4", in("github")))
	r := resolver(t, route.Config{})
	d := route.Destination{Address: at("10.1.0.1:80")}
	for range 3 {
		rt := must(r.Resolve(snap, d))
		if slices.Contains(d.Avoid, rt.Target) {
			t.Fatalf("%s was tried before: %v", rt.Target, d.Avoid)
		}
		d.Avoid = append(d.Avoid, rt.Target)
	}
	if _, err := r.Resolve(snap, d); !errors.Is(err, route.ErrNoEndpoint) {
		t.Fatalf("all were tried: %v", err)
	}
}

func TestNewNeedsSelf(t *testing.T) {
	if _, err := route.New(route.Config{}); err == nil {
		t.Fatal("a resolver for nobody")
	}
}

func FuzzResolveNeverPanics(f *testing.F) {
	f.Add("github.tools", uint16(80), []byte{10, 1, 0, 1})
	snap := snapshot(service("github", "10.1.0.1"), workload("github", "10.0.0.2", in("github")))
	r := resolver(f, route.Config{})
	f.Fuzz(func(t *testing.T, hostname string, port uint16, address []byte) {
		d := route.Destination{Hostname: hostname, Port: port}
		if hostname == "" {
			d = route.Destination{Address: addrPort(address, port)}
		}
		if rt, err := r.Resolve(snap, d); (rt == nil) == (err == nil) {
			t.Fatalf("%v: %v %v", d, rt, err)
		}
	})
}
