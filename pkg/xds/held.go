package xds

import (
	"fmt"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// maxVersions bounds the bytes of initial_resource_versions: a gRPC server in
// Go, istiod among them, takes requests of 4 MiB unless told otherwise. What
// does not fit is sent to us again.
const maxVersions = 3 << 20

// noName is a name that no resource has. istiod answers a request that only
// ends on-demand subscriptions as if all others were to end too: it calls every
// name that is still subscribed to removed. One that also begins a subscription
// it answers by what that asks for.
const noName = "outrigger/nothing"

// A subscription is what the client knows of one type, across streams. Only
// the goroutine of Run touches it, save for what the client's lock guards.
type subscription struct {
	Type

	// Guarded by the client's lock:
	wanted  map[string]uint64 // names to be subscribed to; the number grows when one is to be asked for again
	changed map[string]bool   // names to tell the control plane of; true if the handler has dropped what has that name
	times   uint64            // how often a name was wanted

	// held are the resources the handler has been given, with the version it
	// accepted. The version is empty if there is none or if the last one was
	// rejected: then the resource must be sent again after a reconnect.
	held      map[string]string
	delivered bool // whether the handler has had a response

	// Of the current stream:
	asked     map[string]uint64   // names the control plane was asked for, with their number in wanted
	unclaimed map[string]struct{} // held, but the control plane was not told so
	answered  bool                // whether a response came
}

func newSubscription(t Type) *subscription {
	s := &subscription{Type: t, wanted: map[string]uint64{}, changed: map[string]bool{}, held: map[string]string{}}
	for _, name := range t.Names {
		s.want(name)
	}
	return s
}

func (s *subscription) want(name string) {
	s.times++
	s.wanted[name] = s.times
	dropped := s.changed[name]
	s.changed[name] = dropped // in any case there
}

// forget takes note of what the handler has dropped, whether it is wanted again
// by now or not.
func (s *subscription) forget() {
	for name, dropped := range s.changed {
		if dropped {
			delete(s.held, name)
		}
	}
}

// initial is the first request of the type on a new stream.
func (s *subscription) initial() *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.URL}
	s.forget()
	clear(s.changed)
	s.asked, s.answered = maps.Clone(s.wanted), false
	s.unclaimed = map[string]struct{}{}
	size := 0
	for name, version := range s.held {
		size += len(name) + len(version) + 12 // tags and lengths
		if version == "" || size > maxVersions {
			s.unclaimed[name] = struct{}{}
			continue
		}
		if r.InitialResourceVersions == nil {
			r.InitialResourceVersions = map[string]string{}
		}
		r.InitialResourceVersions[name] = version
	}
	names := slices.Sorted(maps.Keys(s.wanted))
	if s.OnDemand {
		// What is held and came unasked would be neither updated nor removed.
		for name := range s.unclaimed {
			if _, wanted := s.wanted[name]; !wanted {
				names = append(names, name)
			}
		}
		// Without names this request would mean "all".
		names = append([]string{"*"}, names...)
		r.ResourceNamesUnsubscribe = []string{"*"}
	}
	r.ResourceNamesSubscribe = names
	return r
}

// changes are the requests that tell of the names that have changed: what is
// new and what ended, and what is to be asked for again.
func (s *subscription) changes() (change, again *discoveryv3.DeltaDiscoveryRequest) {
	change, again = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.URL}, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.URL}
	s.forget()
	for _, name := range slices.Sorted(maps.Keys(s.changed)) {
		now, wanted := s.wanted[name]
		last, asked := s.asked[name]
		switch {
		case !wanted:
			delete(s.asked, name)
			change.ResourceNamesUnsubscribe = append(change.ResourceNamesUnsubscribe, name)
			continue
		case !asked:
			change.ResourceNamesSubscribe = append(change.ResourceNamesSubscribe, name)
		case last != now:
			change.ResourceNamesUnsubscribe = append(change.ResourceNamesUnsubscribe, name)
			again.ResourceNamesSubscribe = append(again.ResourceNamesSubscribe, name)
		}
		s.asked[name] = now
	}
	clear(s.changed)
	if s.OnDemand && len(change.ResourceNamesSubscribe) == 0 && len(change.ResourceNamesUnsubscribe) > 0 {
		change.ResourceNamesSubscribe = []string{noName}
	}
	return change, again
}

// A delta is a response made ready for the handler.
type delta struct {
	updated  []Resource
	removed  []string
	unusable []Rejection
}

// read checks a response and completes it with the removals it implies. An
// error rejects the response whole.
func (s *subscription) read(r *discoveryv3.DeltaDiscoveryResponse, limit int) (delta, error) {
	var d delta
	index := make(map[string]int, len(r.GetResources()))
	d.updated = make([]Resource, 0, len(r.GetResources()))
	for _, resource := range r.GetResources() {
		u := Resource{Name: resource.GetName(), Aliases: resource.GetAliases(), Version: resource.GetVersion(), Body: resource.GetResource()}
		u.Err = s.check(&u)
		if i, ok := index[u.Name]; ok && !s.Repeated {
			d.updated[i].Err, d.updated[i].Body = errRepeated, nil
			continue
		}
		index[u.Name] = len(d.updated)
		d.updated = append(d.updated, u)
	}
	for i := range d.updated {
		if u := &d.updated[i]; u.Err != nil {
			u.Body = nil
			d.unusable = append(d.unusable, Rejection{u.Name, u.Err})
		}
	}
	d.removed = s.removals(r, index)
	if n := s.count(index, d.removed); n > limit {
		return d, fmt.Errorf("%d resources would be held, at most %d are", n, limit)
	}
	return d, nil
}

func (s *subscription) check(u *Resource) error {
	switch {
	case u.Name == "":
		return errNoName
	case u.Body == nil:
		return errNoBody
	case u.Body.GetTypeUrl() != s.URL:
		return fmt.Errorf("body is a %.100q", u.Body.GetTypeUrl())
	}
	return nil
}

// removals are those the response states and those it implies. What is both
// updated and removed stays.
func (s *subscription) removals(r *discoveryv3.DeltaDiscoveryResponse, updated map[string]int) []string {
	var removed []string
	seen := map[string]bool{}
	remove := func(name string) {
		if _, ok := updated[name]; !ok && !seen[name] && name != "" && name != noName {
			seen[name] = true
			removed = append(removed, name)
		}
	}
	for _, name := range r.GetRemovedResources() {
		remove(name)
	}
	stated := len(removed)
	if s.Complete {
		for name := range s.held {
			remove(name)
		}
	}
	// The first response of a stream repeats all that the control plane was not
	// told we hold. What of that is missing went away while we were not listening.
	if !s.answered && !s.OnDemand {
		for name := range s.unclaimed {
			remove(name)
		}
	}
	slices.Sort(removed[stated:])
	return removed
}

func (s *subscription) count(updated map[string]int, removed []string) int {
	n := len(s.held)
	for name := range updated {
		if _, ok := s.held[name]; !ok {
			n++
		}
	}
	for _, name := range removed {
		if _, ok := s.held[name]; ok {
			n--
		}
	}
	return n
}

// keep records what the handler has taken.
func (s *subscription) keep(d delta, rejected []Rejection) {
	s.delivered, s.answered, s.unclaimed = true, true, nil
	for _, u := range d.updated {
		s.held[u.Name] = u.Version
	}
	for _, r := range rejected {
		if _, ok := s.held[r.Name]; ok {
			s.held[r.Name] = ""
		}
	}
	for _, name := range d.removed {
		delete(s.held, name)
	}
	delete(s.held, "")
}
