package meshtest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// A slowPlane stands between the agent's sidecar and the control plane. It
// passes everything on but the questions for some names, until they are let go.
type slowPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t        *testing.T
	upstream *grpc.ClientConn
	released chan struct{}

	mu    sync.Mutex // guards what follows
	slow  []string
	asked map[string]int // how often for each name
}

const (
	controlName = "istiod.istio-system.svc"
	inTools     = "tools/%s.tools.svc.cluster.local"
)

// newSlowPlane holds up the questions for services of the namespace tools.
func newSlowPlane(t *testing.T, slow ...string) *slowPlane {
	p := &slowPlane{t: t, released: make(chan struct{}), asked: map[string]int{}}
	for _, name := range slow {
		p.slow = append(p.slow, fmt.Sprintf(inTools, name))
	}
	return p
}

// stand makes a sidecar ask p instead of the control plane that it is configured
// with. Its certificate bears the control plane's name, and not its address.
func (p *slowPlane) stand(c *sidecar.Config) {
	p.t.Helper()
	issued, err := meshAuthority(p.t, filepath.Dir(c.Discovery.Root)).IssueServer([]string{controlName}, nil, time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
	if err != nil {
		p.t.Fatal(err)
	}
	roots, err := credentials.NewClientTLSFromFile(c.Discovery.Root, controlName)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.upstream, err = grpc.NewClient(c.Discovery.Address, grpc.WithTransportCredentials(roots), grpc.WithNoProxy()); err != nil {
		p.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	p.t.Cleanup(func() { server.Stop(); serving.Wait(); p.upstream.Close() })
	c.Identity.CAAddress = c.Discovery.Address
	c.Discovery.Address = ln.Addr().String()
}

type adsStream = grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

func (p *slowPlane) DeltaAggregatedResources(down adsStream) error {
	headers, _ := metadata.FromIncomingContext(down.Context())
	ctx := metadata.NewOutgoingContext(down.Context(), metadata.Pairs("authorization", first(headers.Get("authorization"))))
	up, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.upstream).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { // ends with the stream
		defer close(requests)
		for {
			r, err := down.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-down.Context().Done():
				return
			}
		}
	})
	running.Go(func() { p.ask(up, requests) })
	for {
		r, err := up.Recv()
		if err != nil {
			return err
		}
		if err := down.Send(r); err != nil {
			return err
		}
	}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// ask passes requests on; what asks for slow names only when they are released.
func (p *slowPlane) ask(up discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, requests <-chan *discoveryv3.DeltaDiscoveryRequest) {
	var held []*discoveryv3.DeltaDiscoveryRequest
	released := p.released
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return
			}
			if p.note(r) && released != nil {
				held = append(held, r)
				continue
			}
			if up.Send(r) != nil {
				return
			}
		case <-released:
			released = nil
			for _, r := range held {
				if up.Send(r) != nil {
					return
				}
			}
		}
	}
}

// note counts the names that are asked for, and tells whether a slow one is among them.
func (p *slowPlane) note(r *discoveryv3.DeltaDiscoveryRequest) (slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range r.GetResourceNamesSubscribe() {
		p.asked[name]++
		slow = slow || slices.Contains(p.slow, name)
	}
	return slow
}

// count is how often a service of the namespace tools was asked for.
func (p *slowPlane) count(service string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[fmt.Sprintf(inTools, service)]
}

// place is a service with one endpoint outside of the mesh, at an address.
func place(name string, at netip.AddrPort) string {
	return fmt.Sprintf(serviceDocument, name, "{ports: [{servicePort: 80}]}") + fmt.Sprintf(workloadDocument, name,
		fmt.Sprintf("{addresses: [%s], services: {%s: {ports: [{servicePort: 80, targetPort: %d}]}}}", at.Addr(), fmt.Sprintf(inTools, name), at.Port()))
}

// While the control plane is slow to tell of one service, whoever wants that one
// waits, and a first connection to another does not.
func TestAFirstConnectionWaitsForItsOwnLookupOnly(t *testing.T) {
	slow := newSlowPlane(t, "slow")
	m := meshtest.New(t, meshtest.Config{
		Policy: place("slow", announce(t, "127.0.0.1:0", "slow")) + place("fast", announce(t, "127.0.0.2:0", "fast")),
		Adjust: leadingTo(func(c *sidecar.Config) { slow.stand(c); c.Discovery.Timeout = sidecar.Duration(limit) }, "slow.tools", "fast.tools"),
	})
	type answer struct {
		text string
		err  error
	}
	const askers = 5
	got := make(chan answer, askers)
	var asking sync.WaitGroup
	defer asking.Wait() // ask has a limit
	for range askers {
		asking.Go(func() {
			text, err := ask(m, 8081)
			got <- answer{text, err}
		})
	}
	m.Eventually(func() error {
		if slow.count("slow") == 0 {
			return errors.New("nobody has asked for slow")
		}
		return nil
	})
	if text, err := ask(m, 8082); err != nil || text != "fast" {
		t.Fatalf("beside a slow lookup: %q, %v", text, err)
	}
	if len(got) > 0 {
		t.Fatalf("without an answer of the control plane: %+v", <-got)
	}
	close(slow.released)
	for range askers {
		if a := <-got; a.err != nil || a.text != "slow" {
			t.Errorf("when the control plane has answered: %+v", a)
		}
	}
	if n := slow.count("slow"); n != 1 {
		t.Errorf("the control plane was asked %d times", n)
	}
}

// A lookup that nobody answers in time refuses the connection, and the record
// says who has not answered; the next connection asks again.
func TestALookupWithoutAnAnswerEnds(t *testing.T) {
	slow := newSlowPlane(t, "slow")
	m := meshtest.New(t, meshtest.Config{
		Policy: place("slow", announce(t, "127.0.0.1:0", "slow")),
		Adjust: leadingTo(func(c *sidecar.Config) { slow.stand(c); c.Discovery.Timeout = sidecar.Duration(300 * time.Millisecond) }, "slow.tools"),
	})
	if text, err := ask(m, 8081); err == nil {
		t.Fatalf("without an answer of the control plane: %q", text)
	}
	record(m, "agent", "look up ", "slow.tools", "the control plane has not answered within 300ms")
	close(slow.released)
	answers(m, 8081, "slow")
}

// That there is no such service is remembered: who dials it again and again does
// not ask the control plane again and again. It is found when it comes to be.
func TestWhatDoesNotExistIsNotAskedForAgainAndAgain(t *testing.T) {
	plane := newSlowPlane(t)
	m := meshtest.New(t, meshtest.Config{Adjust: leadingTo(func(c *sidecar.Config) { plane.stand(c) }, "later.tools")})
	const dials = 100
	for range dials {
		if text, err := ask(m, 8081); err == nil {
			t.Fatalf("a service that does not exist: %q", text)
		}
	}
	if n := plane.count("later"); n == 0 || n > dials/10 {
		t.Errorf("%d connections asked %d times", dials, n)
	}
	record(m, "agent", "no service that workload agents/agent can see has this name")
	m.WritePolicy(place("later", announce(t, "127.0.0.1:0", "later")))
	answers(m, 8081, "later")
}
