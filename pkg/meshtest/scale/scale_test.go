package scale

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
	securitypb "github.com/outrigger-mesh/outrigger/proto/istio/security"
)

// senderTo names, to a process that is only to send updates, where to.
const senderTo = "OUTRIGGER_SCALE_SEND_TO"

func TestMain(m *testing.M) {
	if to := os.Getenv(senderTo); to != "" {
		send(to)
		return
	}
	goleak.VerifyTestMain(m)
}

var self = mesh.Self{
	Principal: mesh.NewPrincipal("cluster.local", "namespace-1", "account-0"), Name: "deployment-1-7d4b9c5f6-00001", Namespace: "namespace-1",
	ClusterID: "Kubernetes", Addresses: []netip.Addr{Address(10, 1)}, Labels: map[string]string{},
}

func pack(b testing.TB, name string, m proto.Message) xds.Resource {
	body, err := anypb.New(m)
	if err != nil {
		b.Fatal(err)
	}
	return xds.Resource{Name: name, Version: "0123456789abcdef", Body: body}
}

func service(b testing.TB, i int) xds.Resource {
	name, m := Service(i)
	return pack(b, name, m)
}

func workload(b testing.TB, i int, revision string) xds.Resource {
	name, m := Workload(i, revision)
	return pack(b, name, m)
}

// everything is what a control plane sends first.
func everything(b testing.TB) []xds.Resource {
	all := make([]xds.Resource, 0, Workloads+Services)
	for i := range Services {
		all = append(all, service(b, i))
	}
	for i := range Workloads {
		all = append(all, workload(b, i, "v1"))
	}
	return all
}

func load(b testing.TB, all []xds.Resource, batch int) (*discovery.Discovery, *store.Store) {
	st := store.New(store.Config{Self: self, Expect: []string{store.KindWorkloads, store.KindAuthorizations}})
	d, err := discovery.New(discovery.Config{Store: st, Self: self})
	if err != nil {
		b.Fatal(err)
	}
	deliver(b, d, all, batch)
	d.Apply(discovery.AuthorizationType, nil, nil, true)
	if st.Snapshot().Policies() == nil {
		b.Fatal("pending: ", st.Snapshot().Pending())
	}
	return d, st
}

func deliver(b testing.TB, d *discovery.Discovery, all []xds.Resource, batch int) {
	for part := range slices.Chunk(all, batch) {
		if bad := d.Apply(discovery.AddressType, part, nil, true); bad != nil {
			b.Fatal(bad)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLoad decodes, checks and takes in the whole mesh; the goals are 2 s and 250 MB.
func BenchmarkLoad(b *testing.B) {
	all := everything(b)
	for _, batch := range []int{Workloads + Services, 1000} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			var d *discovery.Discovery
			var st *store.Store
			for b.Loop() {
				d, st = load(b, all, batch)
			}
			full := heap()
			runtime.KeepAlive(d)
			runtime.KeepAlive(st)
			d, st = nil, nil
			b.ReportMetric(float64(full-heap())/1e6, "MB")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/load")
		})
	}
}

// BenchmarkReload takes in the whole mesh once more, as when a control plane that
// does not know what was sent sends it again, beside a data path that is given way.
func BenchmarkReload(b *testing.B) {
	all := everything(b)
	d, _ := load(b, all, 1000)
	for b.Loop() {
		deliver(b, d, all, 1000)
	}
}

// BenchmarkAuthorizationChange is a change of one L4 policy among 10,000: of
// another namespace, and of our own.
func BenchmarkAuthorizationChange(b *testing.B) {
	d, _ := load(b, []xds.Resource{service(b, 1), workload(b, 1, "v1")}, 10)
	authorization := func(i int) xds.Resource {
		a := &securitypb.Authorization{Name: fmt.Sprint("policy-", i), Namespace: fmt.Sprint("namespace-", i%200), Scope: securitypb.Scope_NAMESPACE,
			Groups: []*securitypb.Group{{Rules: []*securitypb.Rules{{Matches: []*securitypb.Match{{Principals: []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Exact{Exact: "cluster.local/ns/a/sa/b"}}}}}}}}}}
		return pack(b, a.Namespace+"/"+a.Name, a)
	}
	var all []xds.Resource
	for i := range 10_000 {
		all = append(all, authorization(i))
	}
	if bad := d.Apply(discovery.AuthorizationType, all, nil, false); bad != nil {
		b.Fatal(bad)
	}
	for _, one := range []struct {
		name string
		i    int
	}{{"elsewhere", 2}, {"ours", 1}} {
		b.Run(one.name, func(b *testing.B) {
			r := []xds.Resource{authorization(one.i)}
			b.ReportAllocs()
			for b.Loop() {
				d.Apply(discovery.AuthorizationType, r, nil, false)
			}
		})
	}
}

// BenchmarkStream lets 10,000 updates a second in, one by one. The goals: each is
// visible within 5 ms (p99) of its arrival, and an exchange of a kilobyte that
// asks the configuration first takes at most a tenth longer (p99) than without
// updates. An iteration is three seconds, one of each: quiet, updates that arrive
// and are thrown away (what the measurement itself costs), and updates. What is
// told is the median of the iterations.
func BenchmarkStream(b *testing.B) {
	d, st := load(b, everything(b), Workloads)
	routes, err := route.New(route.Config{Self: &self})
	if err != nil {
		b.Fatal(err)
	}
	updates := make([][]xds.Resource, PerSecond)
	for i := range updates {
		updates[i] = []xds.Resource{workload(b, i*7919%Workloads, "v2")}
	}
	apply := func(u []xds.Resource) { d.Apply(discovery.AddressType, u, nil, false) }
	var quiet, thrown, busy, visible []time.Duration
	for b.Loop() {
		quiet = append(quiet, p99(exchange(b, st, routes, time.Second)))
		with, _ := beside(b, st, routes, updates, func([]xds.Resource) {})
		thrown = append(thrown, with)
		with, seen := beside(b, st, routes, updates, apply)
		busy, visible = append(busy, with), append(visible, seen)
	}
	b.ReportMetric(float64(median(visible).Microseconds())/1e3, "ms-visible-p99")
	b.ReportMetric(float64(median(quiet).Microseconds()), "us-exchange-p99")
	b.ReportMetric(float64(median(thrown).Microseconds()), "us-exchange-p99-thrown-away")
	b.ReportMetric(float64(median(busy).Microseconds()), "us-exchange-p99-streaming")
}

// beside measures exchanges and updates at the same time.
func beside(b *testing.B, st *store.Store, routes *route.Resolver, updates [][]xds.Resource, apply func([]xds.Resource)) (exchanged, visible time.Duration) {
	var streaming sync.WaitGroup
	var seen []time.Duration
	streaming.Go(func() { seen = stream(b, updates, apply) })
	exchanged = p99(exchange(b, st, routes, time.Second))
	streaming.Wait()
	return exchanged, p99(seen)
}

func listen(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

// connected are two ends of a TCP connection.
func connected(b *testing.B) (near, far net.Conn) {
	ln := listen(b)
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		b.Fatal(err)
	}
	return near, far
}

// send stands for updates, as a control plane would send them: a time stamp
// each. It is a process of its own, as a control plane is.
func send(to string) {
	runtime.GOMAXPROCS(1)
	c, err := net.Dial("tcp", to)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	for i := range PerSecond {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / PerSecond)))
		if err := binary.Write(c, binary.LittleEndian, time.Now().UnixNano()); err != nil {
			log.Fatal(err)
		}
	}
}

// stream applies updates that arrive over a socket, and tells how long after it
// was sent each was visible.
func stream(b *testing.B, updates [][]xds.Resource, apply func([]xds.Resource)) []time.Duration {
	ln := listen(b)
	defer ln.Close()
	sender := exec.Command(os.Args[0])
	sender.Env, sender.Stderr = append(os.Environ(), senderTo+"="+ln.Addr().String()), os.Stderr
	if err := sender.Start(); err != nil {
		b.Error(err)
		return nil
	}
	defer sender.Wait()
	c, err := ln.Accept()
	if err != nil {
		b.Error(err)
		return nil
	}
	defer c.Close()
	seen := make([]time.Duration, 0, len(updates))
	var stamp [8]byte
	for _, u := range updates {
		if _, err := io.ReadFull(c, stamp[:]); err != nil {
			b.Error(err)
			break
		}
		apply(u)
		seen = append(seen, time.Since(time.Unix(0, int64(binary.LittleEndian.Uint64(stamp[:])))))
	}
	return seen
}

// exchange asks what a new connection asks of the configuration and then sends a
// kilobyte there and back, a thousand times a second.
func exchange(b *testing.B, st *store.Store, routes *route.Resolver, long time.Duration) []time.Duration {
	near, far := connected(b)
	var echoing sync.WaitGroup
	echoing.Go(func() {
		defer far.Close()
		io.Copy(struct{ io.Writer }{far}, far)
	})
	defer echoing.Wait()
	defer near.Close()
	var took []time.Duration
	message := make([]byte, 1024)
	for i, end := 0, time.Now().Add(long); time.Now().Before(end); i++ {
		time.Sleep(time.Millisecond)
		to := route.Destination{Address: netip.AddrPortFrom(Address(11, i*7919%Services), 80)}
		start := time.Now()
		snap := st.Snapshot()
		rt, err := routes.Resolve(snap, to)
		if err != nil {
			b.Fatal(err)
		}
		snap.Policies().Connect(&policy.Connection{Source: rt.Endpoint.Workload.Principal(), Destination: to.Address})
		if _, err := near.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(near, message); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	return took
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
