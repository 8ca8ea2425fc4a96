package route_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/route"
)

var errRefused = errors.New("connection refused")

func addrPort(b []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, port)
}

func TestFailingTargetIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := route.NewBalancer(route.BalancerConfig{Failures: 2, Ejection: time.Minute})
		r := resolver(t, route.Config{Balancer: b})
		snap := snapshot(service("github", "10.1.0.1"), workload("good", "10.0.0.2", in("github")),
			workload("bad", "10.0.0.3", in("github"), func(w *mesh.Workload) { w.Capacity = 1000 }))
		chosen := func() string {
			return must(r.Resolve(snap, route.Destination{Address: at("10.1.0.1:80")})).Endpoint.Workload.Name
		}
		bad := "c1//Pod/tools/bad"
		b.Report(bad, errRefused)
		b.Report(bad, nil)
		b.Report(bad, errRefused)
		if len(b.Ejections()) != 0 {
			t.Fatal("ejected after failures that did not follow each other")
		}
		b.Report(bad, errRefused)
		for range 50 {
			if chosen() != "good" {
				t.Fatal("an ejected target was chosen")
			}
		}
		for _, ejection := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			time.Sleep(ejection - time.Second)
			all := b.Ejections()
			if len(all) != 1 {
				t.Fatalf("back before %v", ejection)
			}
			if e := all[0]; e.Target != bad || !e.Until.Equal(time.Now().Add(time.Second)) || e.Failures < 2 || e.Why != errRefused {
				t.Fatalf("ejection is %+v", e)
			}
			time.Sleep(time.Second)
			if len(b.Ejections()) != 0 {
				t.Fatalf("not back after %v", ejection)
			}
			b.Report(bad, errRefused) // it is tried once, and fails
		}
		b.Report(bad, nil) // it was tried by somebody who had no other
		if len(b.Ejections()) != 0 {
			t.Fatal("not back after it worked")
		}
	})
}

func TestEjectedTargetsAreBetterThanNone(t *testing.T) {
	b := route.NewBalancer(route.BalancerConfig{Failures: 1})
	r := resolver(t, route.Config{Balancer: b})
	snap := snapshot(service("github", "10.1.0.1"), workload("a", "10.0.0.2", in("github")))
	b.Report("c1//Pod/tools/a", errRefused)
	if len(b.Ejections()) != 1 {
		t.Fatal("not ejected")
	}
	must(r.Resolve(snap, route.Destination{Address: at("10.1.0.1:80")}))
}

func TestBalancerIsBounded(t *testing.T) {
	b := route.NewBalancer(route.BalancerConfig{Failures: 1, MaxKnown: 10})
	for i := range 1000 {
		b.Report(fmt.Sprint(i), errRefused)
	}
	if len(b.Ejections()) > 10 {
		t.Fatalf("%d are remembered, at most 10 are allowed", len(b.Ejections()))
	}
}

func BenchmarkResolve(b *testing.B) {
	all := []any{service("one", "10.1.0.1"), service("many", "10.1.0.2"), workload("alone", "10.0.0.2", in("one")),
		service("guarded", "10.1.0.3", over(byName("gate"))), service("gate", ""), workload("gate", "10.0.0.7", in("gate")),
		service("remote", "10.1.0.4", vouches(account("tools", "r"))), workload("r", "", in("remote"), far(byName("border"))),
		service("border", ""), workload("border", "10.0.0.9", in("border"))}
	for i := range 100 {
		all = append(all, workload(fmt.Sprint("w", i), fmt.Sprint("10.2.0.", i), in("many")))
	}
	snap := snapshot(all...)
	r := resolver(b, route.Config{})
	for _, bench := range []struct{ name, address string }{
		{"workload", "10.0.0.2:80"}, {"service of 1", "10.1.0.1:80"}, {"service of 100", "10.1.0.2:80"},
		{"waypoint", "10.1.0.3:80"}, {"gateway", "10.1.0.4:80"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := route.Destination{Address: at(bench.address)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Resolve(snap, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
