//go:build istiod

package contract

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// A response is one as the handler had it.
type response struct {
	typeURL          string
	updated, removed []string
	first            bool
}

// A recorder is an xds.Handler that remembers what came, and asks the next one.
type recorder struct {
	next   xds.Handler             // nil: everything is good
	reject func(name string) error // nil: nothing is rejected

	mu        sync.Mutex // guards what follows
	held      map[string]map[string]xds.Resource
	responses []response
}

func (r *recorder) Apply(typeURL string, updated []xds.Resource, removed []string, first bool) (rejected []xds.Rejection) {
	if r.next != nil {
		rejected = r.next.Apply(typeURL, updated, removed, first)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[typeURL] == nil {
		r.held[typeURL] = map[string]xds.Resource{}
	}
	record := response{typeURL: typeURL, removed: slices.Clone(removed), first: first}
	for _, u := range updated {
		if r.reject != nil {
			if err := r.reject(u.Name); err != nil {
				rejected = append(rejected, xds.Rejection{Name: u.Name, Err: err})
				continue
			}
		}
		record.updated = append(record.updated, u.Name)
		r.held[typeURL][u.Name] = u
	}
	for _, name := range removed {
		delete(r.held[typeURL], name)
	}
	r.responses = append(r.responses, record)
	return rejected
}

// within answers the names that are held and begin with prefix.
func (r *recorder) within(typeURL, prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r.held[typeURL])) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

func (r *recorder) resource(typeURL, name string) xds.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[typeURL][name]
}

// since answers the responses of a type from the n-th on.
func (r *recorder) since(n int, typeURL string) (list []response) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.responses[n:] {
		if one.typeURL == typeURL {
			list = append(list, one)
		}
	}
	return list
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.responses)
}

// removed tells whether a response from the n-th on said that a name is gone.
func (r *recorder) removed(n int, typeURL, name string) bool {
	return slices.ContainsFunc(r.since(n, typeURL), func(one response) bool { return slices.Contains(one.removed, name) })
}

// A line is a way to the control plane that can be cut.
type line struct {
	mu    sync.Mutex // guards what follows
	down  bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, fmt.Errorf("the line to %s is cut", address)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// A client is the sidecar's xDS client with a recorder.
type client struct {
	*xds.Client
	*recorder
	*line
}

// client connects as a pod of the scene's namespace.
func (s *scene) client(pod istiod.Pod, types []xds.Type, change func(*recorder, *xds.Config)) *client {
	s.Helper()
	d := s.door(s.token(pod.ServiceAccount))
	c := &client{recorder: &recorder{held: map[string]map[string]xds.Resource{}}, line: &line{}}
	config := xds.Config{
		Target: d.address, Credentials: d.credentials, PerRPC: d.perRPC, Metadata: metadata.Pairs("clusterid", "Kubernetes"),
		Dial: c.line.dial, Node: node("sidecar", pod), Types: types, Handler: c.recorder, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(c.recorder, &config)
	}
	var err error
	if c.Client, err = xds.New(config); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("client: %v", err)
		}
		if s.Failed() {
			s.Logf("client's status: %+v", c.Status())
			all := c.since(0, addressType)
			s.Logf("the last responses it had: %+v", all[max(0, len(all)-20):])
		}
	})
	return c
}

// node is how the sidecar of a pod presents itself.
func node(kind string, pod istiod.Pod) *corev3.Node {
	fields := map[string]*structpb.Value{}
	for k, v := range map[string]string{"NAME": pod.Name, "NAMESPACE": pod.Namespace, "SERVICE_ACCOUNT": pod.ServiceAccount, "INSTANCE_IPS": pod.Address,
		"CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0"} {
		fields[k] = structpb.NewStringValue(v)
	}
	return &corev3.Node{Id: fmt.Sprintf("%s~%s~%s.%s~%[4]s.svc.cluster.local", kind, pod.Address, pod.Name, pod.Namespace), Metadata: &structpb.Struct{Fields: fields}}
}
