package sidecar

import (
	"bytes"
	"context"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
)

// stockIstiod ends the stream of who asks it for our type, with istiod 1.31's words.
type stockIstiod struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (stockIstiod) DeltaAggregatedResources(s grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	for {
		switch r, err := s.Recv(); {
		case err != nil:
			return err
		case r.GetTypeUrl() == discovery.AgentPolicyType:
			return status.Error(codes.Unknown, "api generator is restricted to the control-plane (root) namespace")
		}
	}
}

// start serves it by TLS, and returns its address and its certificate in PEM.
func (i stockIstiod) start(t *testing.T) (address, root string) {
	t.Helper()
	site := httptest.NewTLSServer(nil)
	defer site.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&site.TLS.Certificates[0])))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, i)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return ln.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}))
}

// A lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func TestAStockIstiodIsMetWithWhatToDo(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(lockedBuffer)
	s, err := New(configured(func(c *Config) {
		c.Discovery.Address, c.Discovery.Root = stockIstiod{}.start(t)
		c.Discovery.Token = token
	}), Options{Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeLogs()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = s.xds.Run(ctx) })
	for !strings.Contains(log.String(), "api generator is restricted") { // it is in the status before
		time.Sleep(time.Millisecond)
	}
	const remedy = "use --policy-carrier ecds"
	facts := map[string]string{}
	for _, f := range s.facts() {
		facts[f.Name] = f.Value
	}
	for where, text := range map[string]string{
		"log": log.String(), "readiness": strings.Join(s.Pending(), ", "),
		"control plane on the status page": facts["control plane"], "pending on the status page": facts["pending"],
	} {
		if !strings.Contains(text, remedy) {
			t.Errorf("%s does not say %q: %s", where, remedy, text)
		}
	}
	if !strings.Contains(facts["control plane"], "api generator is restricted") {
		t.Errorf("istiod's own words are lost: %s", facts["control plane"])
	}
}

func TestReadinessSaysWhyItWaits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	_, root := stockIstiod{}.start(t)
	s, err := New(configured(func(c *Config) { c.Discovery.Address, c.Discovery.Root = nobody, root }), Options{Version: "test", Log: new(lockedBuffer)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeLogs()
	if says := strings.Join(s.waiting(), ", "); strings.Contains(says, "control plane (") || !strings.Contains(says, "certificate (") {
		t.Errorf("before anything was tried readiness says %s", says)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = s.xds.Run(ctx) })
	for s.xds.Status().Error == "" {
		time.Sleep(time.Millisecond)
	}
	says := s.waiting()
	if !strings.HasPrefix(says[0], "control plane (not connected to "+nobody) || len(says) != len(s.Pending())+1 {
		t.Errorf("readiness says %q", says)
	}
}

func TestTheNameOfTheControlPlaneIsTheOneConfigured(t *testing.T) {
	address, root := stockIstiod{}.start(t)
	for name, wrong := range map[string]bool{"example.com": false, "istiod.istio-system.svc": true} {
		raw, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c := freshCredentials{&identity.ControlPlane{Address: "10.0.0.1:15012", RootCA: root, ServerName: name}}
		conn, _, err := c.ClientHandshake(t.Context(), "10.0.0.1:15012", raw)
		if (err != nil) != wrong {
			t.Errorf("as %s: %v", name, err)
		}
		if err == nil {
			conn.Close()
		}
		raw.Close()
	}
}
