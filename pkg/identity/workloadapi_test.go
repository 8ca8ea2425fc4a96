package identity

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// An agent is a SPIFFE Workload API on a real Unix socket.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	socket string

	mu      sync.Mutex // guards what follows
	answer  *workload.X509SVIDResponse
	refuse  error
	changed chan struct{}
	server  *grpc.Server
	done    chan error
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "wl") // t.TempDir may be too long for a socket
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &agent{socket: filepath.Join(dir, "api.sock"), changed: make(chan struct{})}
	a.start(t)
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *agent) start(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("unix", a.socket)
	do(t, err)
	a.server, a.done = grpc.NewServer(), make(chan error, 1)
	workload.RegisterSpiffeWorkloadAPIServer(a.server, a)
	go func(s *grpc.Server, done chan error) { done <- s.Serve(ln) }(a.server, a.done)
}

// stop takes the socket away.
func (a *agent) stop() {
	a.server.Stop()
	<-a.done
}

func (a *agent) offer(r *workload.X509SVIDResponse, refuse error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.refuse = r, refuse
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("workload.spiffe.io")) == 0 {
		return status.Error(codes.InvalidArgument, "security header missing")
	}
	for {
		a.mu.Lock()
		answer, refuse, changed := a.answer, a.refuse, a.changed
		a.mu.Unlock()
		if refuse != nil {
			return refuse
		}
		if answer != nil {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

func derOf(certs ...*x509.Certificate) (der []byte) {
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return der
}

func offered(id string, by *badcert.Issuer, life time.Duration) *workload.X509SVID {
	c := by.Leaf(id, badcert.NewKey(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(life) })
	return &workload.X509SVID{SpiffeId: id, X509Svid: bytes.Join(c.Certificate, nil), X509SvidKey: must(x509.MarshalPKCS8PrivateKey(c.PrivateKey)), Bundle: derOf(by.Cert)}
}

func TestTheWorkloadAPIBringsCertificatesAndFederatedRoots(t *testing.T) {
	root, partner := badcert.NewRoot("mesh", nil), badcert.NewRoot("partner", nil)
	a := newAgent(t)
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + a.socket, Logger: quiet}))
	background(t, source.Run)
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour), offered(github.String(), root, time.Hour)},
		FederatedBundles: map[string][]byte{"spiffe://" + remote: derOf(partner.Cert)}}, nil)
	first := await(t, source, present)
	if first.Principal != planner || len(first.Bundles) != 2 {
		t.Errorf("%v with roots of %d domains", first.Principal, len(first.Bundles))
	}
	p := &Peer{Chain: []*x509.Certificate{must(x509.ParseCertificate(partner.Leaf(partnerID, badcert.NewKey(), nil).Certificate[0]))}, usage: x509.ExtKeyUsageClientAuth}
	m := &Mutual{Source: source}
	do(t, m.Recheck(p))
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, 2*time.Hour)}}, nil)
	second := await(t, source, func(s *SVID, err error) bool { return err == nil && s != first })
	if second.Bundles[local] != first.Bundles[local] {
		t.Error("the same roots are another pool")
	}
	if err := m.Recheck(p); reason(err) != ReasonTrustDomain {
		t.Errorf("after the federation ended: %v", err)
	}
}

func TestTheWorkloadAPIOffersTheOneThatIsConfigured(t *testing.T) {
	root := badcert.NewRoot("mesh", nil)
	a := newAgent(t)
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + a.socket, Principal: github, Logger: quiet}))
	background(t, source.Run)
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour)}}, nil)
	until(t, func() bool { return source.Err().Error() != ErrNoIdentity.Error() }) // it was looked at
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour), offered(github.String(), root, time.Hour)}}, nil)
	if s := await(t, source, present); s.Principal != github {
		t.Errorf("took %v", s.Principal)
	}
}

// TestTheWorkloadAPISocketMayVanish: spire-agent exits when it cannot renew
// its own certificate, and comes back with a new socket.
func TestTheWorkloadAPISocketMayVanish(t *testing.T) {
	root := badcert.NewRoot("mesh", nil)
	a := newAgent(t)
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, 10*time.Second)}}, nil)
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + a.socket, Logger: quiet}))
	background(t, source.Run)
	first := await(t, source, present)
	a.stop()
	if _, err := os.Stat(a.socket); err == nil {
		t.Fatal("the socket is still there: the test proves nothing")
	}
	if s, err := source.SVID(); err != nil || s != first {
		t.Errorf("right after the socket vanished: %v", err)
	}
	await(t, source, missing)
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour)}}, nil)
	a.start(t)
	if s := await(t, source, present); s == first {
		t.Error("the old one again")
	}
}

func TestTheWorkloadAPIIsAskedAgainWhateverItAnswers(t *testing.T) {
	root := badcert.NewRoot("mesh", nil)
	for _, code := range []codes.Code{codes.PermissionDenied, codes.InvalidArgument, codes.Canceled, codes.Unavailable} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			a.offer(nil, status.Error(code, "no"))
			source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + a.socket, Logger: quiet}))
			background(t, source.Run)
			until(t, func() bool { return source.Err().Error() != ErrNoIdentity.Error() }) // it was refused
			a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour)}}, nil)
			await(t, source, present)
		})
	}
}

func TestABadAnswerOfTheWorkloadAPIDisplacesNothing(t *testing.T) {
	root := badcert.NewRoot("mesh", nil)
	a := newAgent(t)
	source := must(NewWorkloadAPI(WorkloadAPIConfig{Address: "unix://" + a.socket, Logger: quiet}))
	background(t, source.Run)
	a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{offered(plannerID, root, time.Hour)}}, nil)
	good := await(t, source, present)
	wrong := offered(plannerID, root, time.Hour)
	wrong.Bundle = derOf(badcert.NewRoot("other", nil).Cert)
	mixed := offered(plannerID, root, time.Hour)
	mixed.X509SvidKey = offered(plannerID, root, time.Hour).X509SvidKey
	for name, bad := range map[string]*workload.X509SVID{"other roots": wrong, "another's key": mixed, "ended": offered(plannerID, root, -time.Second)} {
		a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{bad}}, nil)
		until(t, func() bool { return source.Err() != nil })
		if s, err := source.SVID(); s != good {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		fresh := offered(plannerID, root, time.Hour)
		a.offer(&workload.X509SVIDResponse{Svids: []*workload.X509SVID{fresh}}, nil)
		before := good
		good = await(t, source, func(s *SVID, err error) bool { return err == nil && s != before })
	}
}

func TestNewWorkloadAPISaysWhatIsMissing(t *testing.T) {
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "")
	for name, c := range map[string]WorkloadAPIConfig{
		"logger": {Address: "unix:///x"}, "address": {Logger: quiet}, "kind of address": {Address: "/x", Logger: quiet},
	} {
		if _, err := NewWorkloadAPI(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock")
	must(NewWorkloadAPI(WorkloadAPIConfig{Logger: quiet}))
}

var (
	_ Source = (*CA)(nil)
	_ Source = (*Files)(nil)
	_ Source = (*WorkloadAPI)(nil)
	_ Source = (*Memory)(nil)
)
