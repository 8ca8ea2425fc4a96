package xds

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const typeA, typeB = "type.googleapis.com/a", "type.googleapis.com/b"

// A plane is a scripted control plane: each attempt to open a stream asks accept.
type plane struct {
	accept  func() error     // nil: accepts
	streams chan *fakeStream // opened
}

type fakeStream struct {
	ctx      context.Context
	requests chan *discoveryv3.DeltaDiscoveryRequest
	answers  chan *discoveryv3.DeltaDiscoveryResponse
	broken   chan error
}

func newPlane() *plane { return &plane{streams: make(chan *fakeStream, 100)} }

func (p *plane) open(ctx context.Context) (stream, func(), error) {
	if p.accept != nil {
		if err := p.accept(); err != nil {
			return nil, nil, err
		}
	}
	s := &fakeStream{ctx, make(chan *discoveryv3.DeltaDiscoveryRequest, 100), make(chan *discoveryv3.DeltaDiscoveryResponse, 100), make(chan error, 1)}
	p.streams <- s
	return s, func() {}, nil
}

func (s *fakeStream) Send(r *discoveryv3.DeltaDiscoveryRequest) error {
	select {
	case s.requests <- r:
		return nil
	case <-s.ctx.Done():
		return io.EOF
	}
}

func (s *fakeStream) Recv() (*discoveryv3.DeltaDiscoveryResponse, error) {
	select {
	case r := <-s.answers:
		return r, nil
	case err := <-s.broken:
		return nil, err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// say sends a response and answers the client's ACK or NACK.
func (s *fakeStream) say(nonce, typeURL string, removed []string, resources ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryRequest {
	s.answers <- &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, Resources: resources, RemovedResources: removed}
	return <-s.requests
}

func res(name, version string) *discoveryv3.Resource {
	return &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: typeA, Value: []byte(version)}}
}

// A book is a handler that remembers. Resources named "bad..." it rejects.
type book struct {
	calls   []call
	content map[string]string
	panics  bool
}

type call struct {
	typeURL          string
	updated, removed []string
	first            bool
}

func (b *book) Apply(typeURL string, updated []Resource, removed []string, first bool) (rejected []Rejection) {
	if b.panics {
		panic("a bug")
	}
	if b.content == nil {
		b.content = map[string]string{}
	}
	c := call{typeURL: typeURL, removed: slices.Clone(removed), first: first}
	for _, u := range updated {
		c.updated = append(c.updated, u.Name)
		if u.Err != nil {
			continue
		}
		if len(u.Name) > 2 && u.Name[:3] == "bad" && u.Version != "good" {
			rejected = append(rejected, Rejection{u.Name, errors.New("it is bad")})
			continue
		}
		b.content[u.Name] = u.Version
	}
	for _, name := range removed {
		delete(b.content, name)
	}
	b.calls = append(b.calls, c)
	return rejected
}

func (b *book) last() call { return b.calls[len(b.calls)-1] }

func config(h Handler, types ...Type) Config {
	return Config{Target: "x", Credentials: insecure.NewCredentials(), Handler: h, Types: types,
		Node: &corev3.Node{Id: "sidecar~10.0.0.1~p.ns~ns.svc.cluster.local"}}
}

// start runs a client against p until stop.
func start(t *testing.T, p *plane, c Config) (client *Client, stop func()) {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	client.open = p.open
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- client.Run(ctx) }()
	return client, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}
