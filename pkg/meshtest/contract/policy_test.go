//go:build istiod

package contract

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// A judge is the server's sidecar as far as it decides about connections.
type judge struct {
	*scene
	*client
	store  *store.Store
	server istiod.Pod
}

func (s *scene) judge(server istiod.Pod) *judge {
	s.Helper()
	address := netip.MustParseAddr(server.Address)
	self := mesh.Self{Principal: mesh.NewPrincipal("cluster.local", server.Namespace, server.ServiceAccount), Name: server.Name, Namespace: server.Namespace,
		Addresses: []netip.Addr{address}, ClusterID: "Kubernetes", ClusterDomain: "cluster.local", RootNamespace: istiod.System, Labels: server.Labels}
	j := &judge{scene: s, server: server, store: store.New(store.Config{Self: self, Expect: []string{store.KindWorkloads, store.KindAuthorizations}})}
	d, err := discovery.New(discovery.Config{Store: j.store, Self: self})
	if err != nil {
		s.Fatal(err)
	}
	j.client = s.client(server, everything, func(r *recorder, _ *xds.Config) { r.next = d })
	s.eventually("the sidecar knows enough to decide", func() bool { return len(j.store.Snapshot().Pending()) == 0 })
	return j
}

// A caller is who calls and where to: "planner" of the scene's namespace,
// "namespace/account", or "" for nobody that is known.
type caller struct {
	account string
	port    uint16
	address string // "" means 10.20.0.1
}

func (c caller) String() string {
	return fmt.Sprintf("%s from %s to port %d", c.account, c.address, c.port)
}

// allows asks for the decision about a caller.
func (j *judge) allows(c caller) policy.Decision {
	q := policy.Connection{
		SourceAddr:  netip.AddrPortFrom(netip.MustParseAddr(or(c.address, "10.20.0.1")), 40000),
		Destination: netip.AddrPortFrom(netip.MustParseAddr(j.server.Address), max(c.port, 1)),
	}
	if c.port == 0 {
		q.Destination = netip.AddrPortFrom(q.Destination.Addr(), 9000)
	}
	if c.account != "" {
		namespace, account, ok := strings.Cut(c.account, "/")
		if !ok {
			namespace, account = j.namespace, c.account
		}
		q.Source = mesh.NewPrincipal("cluster.local", namespace, account)
	}
	return j.store.Snapshot().Policies().Connect(&q)
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// A ruling is a policy and whom it must let through to a server labelled app: server.
type ruling struct {
	name   string
	policy string // the spec of an AuthorizationPolicy in the scene's namespace; %s is the namespace
	allow  []caller
	deny   []caller
}

var (
	planner = caller{account: "planner"}
	other   = caller{account: "other"}
	nobody  = caller{}
	foreign = caller{account: "elsewhere/planner"}
)

// rulings are what istiod makes of each kind of rule.
func rulings() []ruling {
	return []ruling{
		{"by principal", `{rules: [{from: [{source: {principals: ["cluster.local/ns/%s/sa/planner"]}}]}]}`, []caller{planner}, []caller{other, nobody, foreign}},
		{"by two principals", `{rules: [{from: [{source: {principals: ["cluster.local/ns/%[1]s/sa/planner"]}}, {source: {principals: ["cluster.local/ns/%[1]s/sa/other"]}}]}]}`,
			[]caller{planner, other}, []caller{nobody, foreign}},
		{"by the end of a principal", `{rules: [{from: [{source: {principals: ["*/sa/planner"]}}]}]}`, []caller{planner, foreign}, []caller{other, nobody}},
		{"by the beginning of a principal", `{rules: [{from: [{source: {principals: ["cluster.local/ns/%s/*"]}}]}]}`, []caller{planner, other}, []caller{foreign, nobody}},
		{"by there being a principal", `{rules: [{from: [{source: {principals: ["*"]}}]}]}`, []caller{planner, other, foreign}, []caller{nobody}},
		{"by not being a principal", `{action: DENY, rules: [{from: [{source: {notPrincipals: ["cluster.local/ns/%s/sa/planner"]}}]}]}`, []caller{planner}, []caller{other, nobody, foreign}},
		{"by namespace", `{rules: [{from: [{source: {namespaces: ["%s"]}}]}]}`, []caller{planner, other}, []caller{foreign, nobody}},
		{"by not being of a namespace", `{rules: [{from: [{source: {notNamespaces: ["%s"]}}]}]}`, []caller{foreign, nobody}, []caller{planner, other}},
		{"by service account", `{rules: [{from: [{source: {serviceAccounts: ["planner", "elsewhere/other"]}}]}]}`,
			[]caller{planner, {account: "elsewhere/other"}}, []caller{other, nobody, foreign}},
		{"by address", `{rules: [{from: [{source: {ipBlocks: ["10.20.0.0/16"], notIpBlocks: ["10.20.9.0/24"]}}]}]}`,
			[]caller{nobody, planner}, []caller{{address: "10.20.9.1"}, {address: "10.21.0.1"}, {address: "fd00::1"}}},
		{"by port", `{rules: [{to: [{operation: {ports: ["9000", "9001"]}}]}]}`, []caller{nobody, {port: 9001}}, []caller{{port: 9002}}},
		{"by not being a port", `{action: DENY, rules: [{to: [{operation: {notPorts: ["9000"]}}]}]}`, []caller{nobody}, []caller{{port: 9001}}},
		{"by from and to together", `{rules: [{from: [{source: {principals: ["*/sa/planner"]}}], to: [{operation: {ports: ["9000"]}}]}]}`,
			[]caller{planner}, []caller{other, {account: "planner", port: 9001}}},
		{"by conditions together", `{rules: [{when: [{key: source.namespace, values: ["%s"]}, {key: destination.port, notValues: ["9001"]}]}]}`,
			[]caller{planner}, []caller{foreign, {account: "planner", port: 9001}}},
		{"by source.ip and source.principal", `{rules: [{when: [{key: source.ip, values: ["10.20.0.0/16"]}, {key: source.principal, values: ["*/sa/planner"]}]}]}`,
			[]caller{planner}, []caller{other, {account: "planner", address: "10.30.0.1"}}},
		{"a rule of nothing allows everybody", `{rules: [{}]}`, []caller{planner, nobody}, nil},
		{"no rule allows nobody", `{}`, nil, []caller{planner, nobody}},
		{"a rule of nothing denies everybody", `{action: DENY, rules: [{}]}`, nil, []caller{planner, nobody}},
		{"a selector that selects", `{selector: {matchLabels: {app: server}}, action: DENY, rules: [{from: [{source: {principals: ["*/sa/planner"]}}]}]}`, []caller{other, nobody}, []caller{planner}},
		{"a selector that does not select", `{selector: {matchLabels: {app: another}}, action: DENY, rules: [{}]}`, []caller{planner, nobody}, nil},
		{"a method beside a principal in one of two rules", `{rules: [{from: [{source: {principals: ["*/sa/planner"]}}], to: [{operation: {methods: ["GET"]}}]}, {from: [{source: {principals: ["*/sa/other"]}}]}]}`,
			[]caller{other}, []caller{planner, nobody}},
		{"a denied method is denied whatever the method", `{action: DENY, rules: [{from: [{source: {principals: ["*/sa/planner"]}}], to: [{operation: {methods: ["GET"], ports: ["9000"]}}]}]}`,
			[]caller{other, nobody, {account: "planner", port: 9001}}, []caller{planner}},
	}
}

func authorization(namespace, name, spec string) string {
	return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", namespace, name, spec)
}

func peerAuthentication(namespace, name, spec string) string {
	return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", namespace, name, spec)
}

// rule waits until the decisions are as the ruling says.
func (j *judge) rule(r ruling) {
	j.Helper()
	wrong := func() (list []string) {
		for _, c := range r.allow {
			if d := j.allows(c); !d.Allowed {
				list = append(list, fmt.Sprintf("%v is denied: %s", c, d.Reason))
			}
		}
		for _, c := range r.deny {
			if d := j.allows(c); d.Allowed {
				list = append(list, fmt.Sprintf("%v is allowed: %s", c, d.Reason))
			}
		}
		return list
	}
	deadline := time.Now().Add(30 * time.Second)
	for list := wrong(); len(list) > 0; list = wrong() {
		if time.Now().After(deadline) {
			j.Errorf("%s: %s", r.name, strings.Join(list, "; "))
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// knows waits until the sidecar has an authorization, or has it no more.
func (j *judge) knows(name string, present bool) {
	j.Helper()
	j.eventually(fmt.Sprintf("authorization %s is there: %v", name, present), func() bool {
		return slices.Contains(j.within(authorizationType, j.namespace+"/"), j.namespace+"/"+name) == present
	})
}

// authorizationPolicies are applied, enforced and taken back one after the
// other while the sidecar runs.
func authorizationPolicies(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	open := ruling{"without a policy", "", []caller{planner, other, nobody, foreign}, nil}
	j.rule(open)
	for i, r := range rulings() {
		name := fmt.Sprint("ruling-", i)
		spec := r.policy
		if strings.Contains(spec, "%") {
			spec = fmt.Sprintf(spec, s.namespace)
		}
		text := authorization(s.namespace, name, spec)
		s.apply(text)
		j.knows(name, true)
		j.rule(r)
		s.delete(text)
		j.knows(name, false)
		j.rule(open)
	}
}

// A policy that allows by what connections do not show arrives and allows
// nobody; it must not be dropped, as if there were none.
func failsClosed(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	for i, rule := range []string{
		`to: [{operation: {methods: ["GET"]}}]`,
		`to: [{operation: {paths: ["/mcp"]}}]`,
		`to: [{operation: {hosts: ["tools.example"]}}]`,
		`from: [{source: {requestPrincipals: ["*"]}}]`,
		`from: [{source: {remoteIpBlocks: ["10.0.0.0/8"]}}]`,
		`when: [{key: "request.headers[x]", values: ["y"]}]`,
	} {
		name := fmt.Sprint("unseen-", i)
		text := authorization(s.namespace, name, "{rules: [{"+rule+"}]}")
		s.apply(text)
		j.knows(name, true)
		j.rule(ruling{name: rule, deny: []caller{planner, other, nobody, foreign}})
		s.delete(text)
		j.knows(name, false)
		j.rule(ruling{name: rule + ", taken back", allow: []caller{planner, nobody}})
	}
}

// A policy that is only tried out denies nobody, and its verdict is recorded.
func dryRun(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	text := strings.Replace(authorization(s.namespace, "trial", "{action: DENY, rules: [{from: [{source: {principals: [\"*/sa/planner\"]}}]}]}"),
		"name: trial}", "name: trial, annotations: {\"istio.io/dry-run\": \"true\"}}", 1)
	s.apply(text)
	j.knows("trial", true)
	j.rule(ruling{name: "on trial", allow: []caller{planner, other, nobody}})
	if d := j.allows(planner); len(d.Audits) != 1 || d.Audits[0].Policy != s.namespace+"/trial" {
		s.Errorf("the trial says of the planner %+v", d)
	}
	if d := j.allows(other); len(d.Audits) != 0 {
		s.Errorf("the trial says of another %+v", d)
	}
}

// STRICT keeps out who has proved nothing, where it is said: for the mesh, for a
// namespace, for a workload, and the narrower one goes first.
func strict(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	closed := ruling{name: "STRICT", allow: []caller{planner, foreign}, deny: []caller{nobody}}
	open := ruling{name: "PERMISSIVE", allow: []caller{planner, foreign, nobody}}
	j.rule(open)
	meshWide := peerAuthentication(istiod.System, "default", "{mtls: {mode: STRICT}}")
	s.apply(meshWide)
	j.rule(closed)
	namespace := peerAuthentication(s.namespace, "default", "{mtls: {mode: PERMISSIVE}}")
	s.apply(namespace)
	j.rule(open)
	workload := peerAuthentication(s.namespace, "server", "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}}")
	s.apply(workload)
	j.rule(closed)
	s.delete(meshWide, namespace)
	j.rule(closed)
	s.delete(workload)
	j.rule(open)
}

// strictByPort: a port may be stricter than its workload, and less strict.
func strictByPort(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	elsewhere, known := caller{port: 9001}, caller{account: "planner", port: 9001}
	lenient := peerAuthentication(s.namespace, "server", "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, portLevelMtls: {9001: {mode: PERMISSIVE}}}")
	s.apply(lenient)
	j.rule(ruling{name: "a port less strict", allow: []caller{planner, known, elsewhere}, deny: []caller{nobody}})
	s.apply(peerAuthentication(s.namespace, "server", "{selector: {matchLabels: {app: server}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {9001: {mode: STRICT}}}"))
	j.rule(ruling{name: "a port more strict", allow: []caller{planner, known, nobody}, deny: []caller{elsewhere}})
	s.delete(lenient)
	j.rule(ruling{name: "neither", allow: []caller{planner, known, nobody, elsewhere}})
}

// A policy that denies by what only requests show denies no connection.
func deniesNothing(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	j := s.judge(server)
	s.apply(authorization(s.namespace, "unseen", `{action: DENY, rules: [{to: [{operation: {methods: ["GET"]}}]}]}`))
	j.knows("unseen", true)
	j.rule(ruling{name: "a denied method", allow: []caller{planner, nobody}})
}
