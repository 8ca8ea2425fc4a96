package admission_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

const (
	home     = "cluster.local"
	partner  = "partner.example"
	selected = "tools/selected" // the policy that our workload may list
)

// A caller is somebody who has once shaken hands with us.
type caller struct {
	id   mesh.Principal
	root string // who signed its certificate
	peer identity.Peer
}

// A rule is a policy, as the store has it and as the model has it.
type rule struct {
	compiled *policy.Authorization
	allow    bool
	listed   bool // it counts if our workload lists it
	matches  func(id mesh.Principal, port uint16) bool
}

// A stage is one sidecar's admission, and the naive model of its state.
type stage struct {
	t        *testing.T
	store    *store.Store
	register *admission.Register
	source   *identity.Memory
	mutual   *identity.Mutual
	admitted *identity.Admitted
	callers  []*caller
	ports    []netip.AddrPort
	rules    map[string]*rule
	names    []string // of rules, sorted
	worlds   []*world
	lists    []crl
	link     string // path of the CRL file
	crl      *identity.CRL

	watching atomic.Bool // the watch over identity is checking
	now      *episode    // that is played

	// The model.
	inForce map[string]bool // rules
	listing bool            // our workload lists the selected policy
	gone    bool            // our workload is gone
	world   *world
	revoked *caller
}

// A crl is the content of a CRL file.
type crl struct {
	revoked *caller // nil: nobody
	der     []byte
}

// A world is a certificate of ours with the roots that we trust beside it.
type world struct {
	svid    *identity.SVID
	roots   []string
	expired bool
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newStage sets up a sidecar whose watchers run until the test ends.
func newStage(t *testing.T) *stage {
	s := &stage{t: t, inForce: map[string]bool{}, rules: newRules(), link: filepath.Join(t.TempDir(), "crl.der")}
	s.names = slices.Sorted(maps.Keys(s.rules))
	for _, port := range []uint16{9000, 9001} {
		s.ports = append(s.ports, netip.AddrPortFrom(netip.MustParseAddr("10.1.1.1"), port))
	}
	self := mesh.Self{Principal: mesh.NewPrincipal(home, "tools", "server"), Name: "server", Namespace: "tools", Addresses: []netip.Addr{s.ports[0].Addr()}}
	s.store = store.New(store.Config{Self: self, Expect: []string{store.KindWorkloads, store.KindAuthorizations}})
	s.register = admission.NewRegister(s.store)
	s.meetCallers(self.Principal)
	s.store.Apply(store.Change{Workloads: s.workload(), Synced: []string{store.KindWorkloads, store.KindAuthorizations}})
	ctx, cancel := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	watchers.Go(func() { s.register.Run(ctx) })
	watchers.Go(func() {
		_ = s.mutual.Watch(ctx, func() { // it ends with ctx
			s.watching.Store(true)
			s.admitted.Recheck()
			s.watching.Store(false)
		})
	})
	t.Cleanup(func() { cancel(); watchers.Wait() })
	return s
}

// meetCallers shakes hands with everybody once, under roots that admit all.
func (s *stage) meetCallers(self mesh.Principal) {
	authorities := map[string]*authority.Authority{}
	for name, domain := range map[string]string{"old": home, "new": home, "partner": partner} {
		authorities[name] = must(authority.New(domain, 1000*time.Hour))
	}
	for _, roots := range [][]string{{"old", "new", "partner"}, {"old"}, {"old", "new"}, {"new"}, {"old", "partner"}, {"new", "partner"}} {
		s.worlds = append(s.worlds, newWorld(authorities, self, roots))
	}
	ended := *s.worlds[0].svid
	ended.NotAfter = time.Now().Add(-time.Second)
	s.worlds = append(s.worlds, &world{svid: &ended, expired: true})
	s.world = s.worlds[0]
	s.source = identity.NewMemory(s.world.svid)
	s.crl = must(identity.NewCRL(identity.CRLConfig{Path: s.link, Logger: slog.New(slog.DiscardHandler)}))
	s.mutual = &identity.Mutual{Source: s.source, CRL: s.crl}
	s.admitted = identity.NewAdmitted(s.check)
	for _, c := range []caller{
		{id: mesh.NewPrincipal(home, "agents", "planner"), root: "old"},
		{id: mesh.NewPrincipal(home, "agents", "planner"), root: "new"},
		{id: mesh.NewPrincipal(home, "agents", "intern"), root: "old"},
		{id: mesh.NewPrincipal(partner, "agents", "planner"), root: "partner"},
	} {
		c.peer = s.meet(authorities[c.root], c.id, self)
		s.callers = append(s.callers, &c)
	}
	s.writeLists(authorities["old"])
}

// newWorld is a certificate of ours by the first of roots, or by the old one's successor.
func newWorld(authorities map[string]*authority.Authority, self mesh.Principal, roots []string) *world {
	issued := must(authorities[roots[0]].Issue(self, 1000*time.Hour))
	w := &world{svid: must(identity.ParseSVID(issued.CertPEM, issued.KeyPEM, issued.RootPEM)), roots: roots}
	for _, name := range roots[1:] {
		domain := authorities[name].TrustDomain()
		if w.svid.Bundles[domain] == nil {
			w.svid.Bundles[domain] = x509.NewCertPool()
		}
		w.svid.Bundles[domain].AppendCertsFromPEM(authorities[name].RootPEM())
	}
	return w
}

// meet is a real handshake: what it learned of the caller is what connections show.
func (s *stage) meet(signer *authority.Authority, id, self mesh.Principal) identity.Peer {
	issued := must(signer.Issue(id, 1000*time.Hour))
	svid := must(identity.ParseSVID(issued.CertPEM, issued.KeyPEM, issued.RootPEM))
	for domain, pool := range s.world.svid.Bundles {
		svid.Bundles[domain] = pool
	}
	near, far := net.Pipe()
	defer near.Close()
	client := &identity.Mutual{Source: identity.NewMemory(svid)}
	var peer identity.Peer
	var handshakes sync.WaitGroup
	handshakes.Go(func() {
		c := must(s.mutual.Server(s.t.Context(), far))
		peer = c.Peer
		c.NetConn().Close()
	})
	must(client.Client(s.t.Context(), near, []mesh.Principal{self}))
	_, _ = io.Copy(io.Discard, near) // what the server's end says last
	handshakes.Wait()
	return peer
}

// writeLists writes CRLs that revoke nobody, and each caller of the old root.
func (s *stage) writeLists(signer *authority.Authority) {
	dir := s.t.TempDir()
	if err := signer.Save(dir); err != nil {
		s.t.Fatal(err)
	}
	root := must(tls.LoadX509KeyPair(filepath.Join(dir, authority.CertFile), filepath.Join(dir, authority.KeyFile)))
	for _, revoked := range []*caller{nil, s.callers[0], s.callers[2]} {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(1000 * time.Hour)}
		if revoked != nil {
			list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: revoked.peer.Chain[0].SerialNumber, RevocationTime: time.Now()}}
		}
		s.lists = append(s.lists, crl{revoked, must(x509.CreateRevocationList(rand.Reader, list, root.Leaf, root.PrivateKey.(*ecdsa.PrivateKey)))})
	}
}

// check is what Admitted asks: the real check, and pauses around it where a
// connection is being admitted.
func (s *stage) check(p *identity.Peer) error {
	if s.watching.Load() {
		return s.mutual.Recheck(p)
	}
	s.now.pause()
	err := s.mutual.Recheck(p)
	s.now.pause()
	return err
}

func (s *stage) workload() map[string]*mesh.Workload {
	const uid = "Kubernetes//Pod/tools/server"
	if s.gone {
		return map[string]*mesh.Workload{uid: nil}
	}
	w := &mesh.Workload{UID: uid, Name: "server", Namespace: "tools", ServiceAccount: "server", TrustDomain: home, Addresses: []netip.Addr{s.ports[0].Addr()}}
	if s.listing {
		w.AuthorizationPolicies = []string{selected}
	}
	return map[string]*mesh.Workload{uid: w}
}

func newRules() map[string]*rule {
	exact := func(id mesh.Principal) []policy.StringMatch {
		return []policy.StringMatch{{Kind: policy.MatchExact, Value: id.String()[len("spiffe://"):]}}
	}
	planner, friend := mesh.NewPrincipal(home, "agents", "planner"), mesh.NewPrincipal(partner, "agents", "planner")
	all := map[string]*rule{}
	add := func(name string, scope policy.Scope, action policy.Action, m policy.AuthorizationMatch, matches func(mesh.Principal, uint16) bool) {
		spec := policy.AuthorizationSpec{Name: name, Namespace: "tools", Scope: scope, Action: action,
			Groups: []policy.AuthorizationGroup{{Rules: []policy.AuthorizationRule{{Matches: []policy.AuthorizationMatch{m}}}}}}
		all["tools/"+name] = &rule{compiled: must(policy.CompileAuthorization(spec)), allow: action == policy.ActionAllow, listed: scope == policy.ScopeWorkload, matches: matches}
	}
	add("no-planner", policy.ScopeNamespace, policy.ActionDeny, policy.AuthorizationMatch{Principals: exact(planner)},
		func(id mesh.Principal, _ uint16) bool { return id == planner })
	add("no-9001", policy.ScopeNamespace, policy.ActionDeny, policy.AuthorizationMatch{DestinationPorts: []uint32{9001}},
		func(_ mesh.Principal, port uint16) bool { return port == 9001 })
	add("only-planner", policy.ScopeNamespace, policy.ActionAllow, policy.AuthorizationMatch{Principals: exact(planner)},
		func(id mesh.Principal, _ uint16) bool { return id == planner })
	add("only-9000", policy.ScopeNamespace, policy.ActionAllow, policy.AuthorizationMatch{DestinationPorts: []uint32{9000}},
		func(_ mesh.Principal, port uint16) bool { return port == 9000 })
	add("no-partner", policy.ScopeGlobal, policy.ActionDeny, policy.AuthorizationMatch{Principals: exact(friend)},
		func(id mesh.Principal, _ uint16) bool { return id == friend })
	add("selected", policy.ScopeWorkload, policy.ActionDeny, policy.AuthorizationMatch{NotPrincipals: exact(friend)},
		func(id mesh.Principal, _ uint16) bool { return id != friend })
	return all
}
