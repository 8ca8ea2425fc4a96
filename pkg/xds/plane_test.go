package xds

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const realType = "type.googleapis.com/google.protobuf.StringValue"

// A realPlane is go-control-plane on a loopback socket.
type realPlane struct {
	cache   *cache.LinearCache
	address string
	stop    func()
	opened  atomic.Int32
	nacks   chan *discoveryv3.DeltaDiscoveryRequest
	initial chan map[string]string
}

func serve(t *testing.T, address string, resources map[string]types.Resource, tokens func(string) bool) *realPlane {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &realPlane{cache: cache.NewLinearCache(realType, cache.WithInitialResources(resources)), address: listener.Addr().String(),
		nacks: make(chan *discoveryv3.DeltaDiscoveryRequest, 100), initial: make(chan map[string]string, 100)}
	callbacks := server.CallbackFuncs{
		DeltaStreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
			p.opened.Add(1)
			md, _ := metadata.FromIncomingContext(ctx)
			if got := md.Get("authorization"); tokens != nil && (len(got) != 1 || !tokens(got[0])) {
				return status.Error(codes.Unauthenticated, "who are you?")
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.GetErrorDetail() != nil {
				p.nacks <- r
			}
			if r.GetResponseNonce() == "" {
				p.initial <- r.GetInitialResourceVersions()
			}
			return nil
		},
	}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(ctx, p.cache, callbacks))
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	p.stop = sync.OnceFunc(func() { cancel(); s.Stop(); <-done })
	t.Cleanup(p.stop)
	return p
}

// A feed is a handler for tests over sockets.
type feed struct {
	mu sync.Mutex
	book
}

func (f *feed) Apply(typeURL string, updated []Resource, removed []string, first bool) []Rejection {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.book.Apply(typeURL, updated, removed, first)
}

func (f *feed) names() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := map[string]bool{}
	for name := range f.content {
		names[name] = true
	}
	return names
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func run(t *testing.T, c Config) *Client {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return client
}

func text(s string) types.Resource { return wrapperspb.String(s) }

func TestAgainstGoControlPlane(t *testing.T) {
	p := serve(t, "127.0.0.1:0", map[string]types.Resource{"a": text("1"), "b": text("1")}, nil)
	f := &feed{}
	c := config(f, Type{URL: realType})
	c.Target = p.address
	var messages, bytes atomic.Int64
	ends := make(chan End, 1000)
	c.Received = func(typeURL string, n int) {
		if typeURL == realType {
			messages.Add(1)
			bytes.Add(int64(n))
		}
	}
	c.Ended = func(e End) { ends <- e }
	client := run(t, c)
	has := func(names ...string) func() bool {
		want := map[string]bool{}
		for _, n := range names {
			want[n] = true
		}
		return func() bool { return maps.Equal(f.names(), want) }
	}
	eventually(t, "both arrive", has("a", "b"))
	if err := p.cache.UpdateResource("c", text("1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c arrives", has("a", "b", "c"))
	if err := p.cache.DeleteResource("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a goes", has("b", "c"))
	if err := p.cache.UpdateResources(map[string]types.Resource{"bad": text("x"), "d": text("1")}, nil); err != nil {
		t.Fatal(err)
	}
	if nack := <-p.nacks; nack.GetErrorDetail().GetMessage() != "bad: it is bad" {
		t.Fatalf("NACK %v", nack)
	}
	eventually(t, "d arrives beside the bad one", has("b", "c", "d"))
	if messages.Load() < 4 || bytes.Load() < 100 || len(ends) != 0 {
		t.Errorf("%d messages of %d bytes, %d ends", messages.Load(), bytes.Load(), len(ends))
	}
	<-p.initial

	// The control plane dies; it comes back with b deleted and e added.
	p.stop()
	eventually(t, "the loss shows", func() bool { s := client.Status(); return !s.Connected && s.Error != "" })
	if first, then := <-ends, <-ends; first != EndError && first != EndRenewed && first != EndComplete || then != EndUnopened {
		t.Errorf("the stream ended by %d, and the next by %d", first, then)
	}
	if !has("b", "c", "d")() {
		t.Fatalf("content %v after the loss", f.names())
	}
	p = serve(t, p.address, map[string]types.Resource{"c": text("1"), "d": text("1"), "e": text("1")}, nil)
	if versions := <-p.initial; len(versions) != 3 || versions["bad"] != "" || versions["c"] == "" {
		t.Fatalf("versions echoed: %v", versions)
	}
	eventually(t, "caught up", has("c", "d", "e"))
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.last(); len(got.updated) != 1 || got.updated[0] != "e" {
		t.Fatalf("unchanged resources were sent again: %+v", got)
	}
}

func TestNamedSubscriptionAgainstGoControlPlane(t *testing.T) {
	p := serve(t, "127.0.0.1:0", map[string]types.Resource{"a": text("1"), "b": text("1")}, nil)
	f := &feed{}
	c := config(f, Type{URL: realType, Names: []string{"a"}})
	c.Target = p.address
	client := run(t, c)
	eventually(t, "a arrives alone", func() bool { return maps.Equal(f.names(), map[string]bool{"a": true}) })
	if err := client.Subscribe(realType, "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b arrives", func() bool { return maps.Equal(f.names(), map[string]bool{"a": true, "b": true}) })
}

// A rotating token is read at every connect.
type rotating struct{ n atomic.Int32 }

func (r *rotating) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if r.n.Add(1) < 3 {
		return map[string]string{"authorization": "Bearer old"}, nil
	}
	return map[string]string{"authorization": "Bearer new"}, nil
}

func (*rotating) RequireTransportSecurity() bool { return false }

func TestTokenIsReadAtEveryConnect(t *testing.T) {
	p := serve(t, "127.0.0.1:0", map[string]types.Resource{"a": text("1")}, func(s string) bool { return s == "Bearer new" })
	f := &feed{}
	c := config(f, Type{URL: realType})
	c.Target, c.PerRPC = p.address, &rotating{}
	client := run(t, c)
	eventually(t, "admitted", func() bool { return f.names()["a"] })
	if n := p.opened.Load(); n != 3 {
		t.Errorf("%d streams, want 3", n)
	}
	if s := client.Status(); !s.Connected || s.Error != "" {
		t.Errorf("status %+v", s)
	}
}

func TestResponseOverTheLimitNeverArrives(t *testing.T) {
	p := serve(t, "127.0.0.1:0", map[string]types.Resource{"a": text(string(make([]byte, 10_000)))}, nil)
	f := &feed{}
	c := config(f, Type{URL: realType})
	c.Target, c.MaxMessage = p.address, 1000
	client := run(t, c)
	eventually(t, "the limit shows", func() bool { return client.Status().Error != "" })
	if len(f.names()) != 0 {
		t.Error("it arrived")
	}
}

func TestTLSTargetThatIsNotTrustedIsRefused(t *testing.T) {
	p := serve(t, "127.0.0.1:0", nil, nil)
	c := config(&feed{}, Type{URL: realType})
	c.Target, c.Credentials = p.address, credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})
	client := run(t, c)
	eventually(t, "the failure shows", func() bool { return client.Status().Error != "" })
	if client.Status().Connected {
		t.Error("connected to a plaintext server")
	}
}
