package control

import (
	"errors"
	"maps"
	"slices"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// absent is the version under which a stream remembers that a name does not
// exist. No resource has it: versions are hexadecimal.
const absent = "absent"

// A cache answers the watches of go-control-plane. It differs from its
// LinearCache in what istiod does and that one does not: aliases, an answer for
// names that do not exist, a service's workloads with the service, policies only
// for the namespaces they concern, and no answer for types it does not serve
// rather than the end of the stream.
type cache struct {
	rootNamespace string

	mu      sync.Mutex // guards what follows
	tables  map[string]*table
	watches map[string]map[*deltaWatch]struct{} // by type
}

var _ cachev3.ConfigWatcher = (*cache)(nil)

// A deltaWatch is a stream's request for one type that waits for news. It is
// answered once; the client's ACK makes another.
type deltaWatch struct {
	request *cachev3.DeltaRequest
	sub     cachev3.Subscription
	out     chan cachev3.DeltaResponse
}

func newCache(rootNamespace string) *cache {
	c := &cache{rootNamespace: rootNamespace, watches: map[string]map[*deltaWatch]struct{}{}}
	for _, typeURL := range []string{AddressType, AuthorizationType, AgentPolicyType} {
		c.watches[typeURL] = map[*deltaWatch]struct{}{}
	}
	return c
}

// set serves new tables and answers the watches they have news for.
func (c *cache) set(tables map[string]*table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.tables == nil
	for typeURL, t := range tables {
		if !first && maps.EqualFunc(t.resources, c.tables[typeURL].resources, sameVersion) {
			continue
		}
		for w := range c.watches[typeURL] {
			if c.answer(w, t, first) {
				delete(c.watches[typeURL], w)
			}
		}
	}
	c.tables = tables
}

func sameVersion(a, b *resource) bool { return a.Version == b.Version }

// CreateWatch refuses the state-of-the-world protocol, which is not offered.
func (c *cache) CreateWatch(*cachev3.Request, cachev3.Subscription, chan cachev3.Response) (func(), error) {
	return nil, errors.New("only the delta protocol is served")
}

// CreateDeltaWatch answers at once if there is something to say, or if the
// request is not an ACK, and later otherwise.
func (c *cache) CreateDeltaWatch(r *cachev3.DeltaRequest, sub cachev3.Subscription, out chan cachev3.DeltaResponse) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	watches, ok := c.watches[r.GetTypeUrl()]
	if !ok {
		return nil, nil
	}
	w := &deltaWatch{r, sub, out}
	if c.tables != nil && c.answer(w, c.tables[r.GetTypeUrl()], r.GetResponseNonce() == "") {
		return nil, nil
	}
	watches[w] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(watches, w)
	}, nil
}

// answer sends what the stream does not have. out has room: a stream has at
// most one watch of a type, and drains before it makes another.
func (c *cache) answer(w *deltaWatch, t *table, evenIfEmpty bool) bool {
	d := c.compare(w, t)
	if len(d.updated)+len(d.removed) == 0 && !evenIfEmpty {
		return false
	}
	slices.Sort(d.removed)
	w.out <- &cachev3.DeltaPassthroughResponse{
		DeltaRequest:   w.request,
		NextVersionMap: d.next,
		DeltaDiscoveryResponse: &discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: w.request.GetTypeUrl(), Resources: d.updated, RemovedResources: d.removed,
		},
	}
	return true
}

// A difference is what a stream lacks, and what it will have then.
type difference struct {
	updated []*discoveryv3.Resource
	removed []string
	next    map[string]string
}

func (c *cache) compare(w *deltaWatch, t *table) difference {
	has := w.sub.ReturnedResources()
	namespace := nodeNamespace(w.request.GetNode())
	d := difference{next: make(map[string]string, len(has))}
	want := func(r *resource, named bool) {
		if _, ok := d.next[r.Name]; ok || !c.visible(r, namespace) {
			return
		}
		d.next[r.Name] = r.Version
		if has[r.Name] != r.Version {
			d.updated = append(d.updated, r.told(named))
		}
	}
	if w.sub.IsWildcard() {
		for _, r := range t.resources {
			want(r, false)
		}
	}
	for name := range w.sub.SubscribedResources() {
		found := t.find(name)
		for _, r := range found {
			want(r, true)
		}
		if len(found) == 0 {
			d.next[name] = absent
		}
	}
	for name, version := range d.next {
		if version == absent && has[name] != absent {
			d.removed = append(d.removed, name)
		}
	}
	for name, version := range has {
		if _, ok := d.next[name]; !ok && version != absent {
			d.removed = append(d.removed, name)
		}
	}
	return d
}

// told is the resource as it is sent: istiod fills aliases only for those who ask by name.
func (r *resource) told(named bool) *discoveryv3.Resource {
	if !named || len(r.aliases) == 0 {
		return r.Resource
	}
	return &discoveryv3.Resource{Name: r.Name, Aliases: r.aliases, Version: r.Version, Resource: r.Resource.Resource}
}

// find is what name or alias stands for; a service comes with its workloads.
func (t *table) find(name string) []*resource {
	names := []string{name}
	if t.resources[name] == nil {
		names = t.aliases[name]
	}
	var found []*resource
	for _, n := range names {
		found = append(found, t.resources[n])
		for _, workload := range t.endpoints[n] {
			found = append(found, t.resources[workload])
		}
	}
	return found
}

// visible keeps policies from sidecars that they do not concern: those of the
// root namespace concern all, others their own namespace.
func (c *cache) visible(r *resource, namespace string) bool {
	return r.namespace == "" || r.namespace == c.rootNamespace || r.namespace == namespace
}

// nodeNamespace is the namespace a node claims; whoever opened the stream has proved it.
func nodeNamespace(n *corev3.Node) string {
	if v := n.GetMetadata().GetFields()["NAMESPACE"].GetStringValue(); v != "" {
		return v
	}
	return parseNode(n.GetId()).namespace
}
