//go:build istiod

package contract

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

var (
	everything = []xds.Type{{URL: addressType}, {URL: authorizationType}}
	demanded   = []xds.Type{{URL: addressType, OnDemand: true}, {URL: authorizationType}}
)

// all waits until a client holds exactly the workloads named, and the services, of the scene.
func (s *scene) all(c *client, pods []string, services ...string) {
	s.Helper()
	var want []string
	for _, p := range pods {
		want = append(want, s.uid(p))
	}
	for _, name := range services {
		want = append(want, s.hostname(name))
	}
	slices.Sort(want)
	var have []string
	s.eventually("the client holds "+strings.Join(want, " "), func() bool {
		have = append(c.within(addressType, s.uid("")), c.within(addressType, s.namespace+"/")...)
		slices.Sort(have)
		return slices.Equal(have, want)
	})
}

// A first request for nothing in particular gets everything, with versions, in
// one response that is marked as the first.
func wildcard(s *scene) {
	a := s.pod("a")
	s.apply(a.YAML(), s.pod("b").YAML(), s.service("a", s.virtual()))
	s.settle(a, []string{"a", "b"}, "a")
	c := s.client(a, everything, nil)
	s.all(c, []string{"a", "b"}, "a")
	for i, one := range c.since(0, addressType) {
		if whole := slices.Contains(one.updated, s.uid("a")) && slices.Contains(one.updated, s.uid("b")) && slices.Contains(one.updated, s.hostname("a")); one.first != (i == 0) || one.first && !whole {
			s.Errorf("response %d is %+v", i, one)
		}
	}
	for _, name := range []string{s.uid("a"), s.hostname("a")} {
		if r := c.resource(addressType, name); r.Version == "" || len(r.Aliases) != 0 {
			s.Errorf("%s has version %q and aliases %q", name, r.Version, r.Aliases)
		}
	}
	s.eventually("authorizations", func() bool { return len(c.since(0, authorizationType)) > 0 })
}

func liveChange(s *scene) {
	a := s.pod("a")
	s.apply(a.YAML())
	c := s.client(a, everything, nil)
	s.all(c, []string{"a"})
	version, n := c.resource(addressType, s.uid("a")).Version, c.count()
	s.apply(s.pod("b").YAML())
	s.all(c, []string{"a", "b"})
	s.apply(s.service("a", s.virtual()))
	s.all(c, []string{"a", "b"}, "a")
	s.eventually("the pod has another version because it is in a service", func() bool { return c.resource(addressType, s.uid("a")).Version != version })
	for _, one := range c.since(n, addressType) {
		if one.first || len(one.updated) > 3 {
			s.Errorf("a change was told by %+v", one)
		}
	}
}

func removal(s *scene) {
	a, b, service := s.pod("a"), s.pod("b"), s.service("b", s.virtual())
	s.apply(a.YAML(), b.YAML(), service)
	c := s.client(a, everything, nil)
	s.all(c, []string{"a", "b"}, "b")
	n := c.count()
	s.delete(b.Reference())
	s.all(c, []string{"a"}, "b")
	s.delete(service)
	s.all(c, []string{"a"})
	if !c.removed(n, addressType, s.uid("b")) || !c.removed(n, addressType, s.hostname("b")) {
		s.Errorf("responses %+v", c.since(n, addressType))
	}
}

// A client that asks for nothing gets an empty answer; then, by the address of a
// service, the service with its workloads, and by that of a pod the pod.
func onDemand(s *scene) {
	a, b, other, vip := s.pod("a"), s.pod("b"), s.pod("other"), s.virtual()
	s.apply(a.YAML(), b.YAML(), other.YAML(), s.service("b", vip), s.service("other", s.virtual()))
	s.settle(a, []string{"a", "b", "other"}, "b", "other")
	c := s.client(a, demanded, nil)
	s.eventually("an empty answer", func() bool { return len(c.since(0, addressType)) > 0 })
	s.all(c, nil)
	s.ask(c, "/"+vip)
	s.all(c, []string{"b"}, "b")
	s.ask(c, "/"+a.Address)
	s.all(c, []string{"a", "b"}, "b")
	s.ask(c, s.hostname("other"))
	s.all(c, []string{"a", "b", "other"}, "b", "other")
	n := c.count()
	s.delete(b.Reference())
	s.all(c, []string{"a", "other"}, "b", "other")
	if !c.removed(n, addressType, s.uid("b")) {
		s.Errorf("responses %+v", c.since(n, addressType))
	}
}

func (s *scene) ask(c *client, names ...string) {
	s.Helper()
	if err := c.Subscribe(addressType, names...); err != nil {
		s.Fatal(err)
	}
}

// again asks anew, as the sidecar does from time to time, until the state is reached.
func (s *scene) again(c *client, name string, pods []string, services ...string) {
	s.Helper()
	want := len(pods)
	s.eventually("an answer about "+name, func() bool {
		if len(c.within(addressType, s.uid(""))) == want {
			return true
		}
		if err := c.Again(addressType, name); err != nil {
			s.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
	s.all(c, pods, services...)
}

// What does not exist is said to be removed, by the name that was asked for. If
// it comes to be it is told when it was asked for by its name; who asked by
// address must ask again, because istiod keeps no subscription to addresses.
func negativeAnswers(s *scene) {
	a := s.pod("a")
	s.apply(a.YAML())
	s.settle(a, []string{"a"})
	c := s.client(a, demanded, nil)
	later, last := s.pod("later"), s.pod("last")
	for _, name := range []string{"/" + last.Address, s.hostname("none"), s.uid("none"), s.uid("later")} {
		s.ask(c, name)
		s.eventually("no to "+name, func() bool { return c.removed(0, addressType, name) })
	}
	s.all(c, nil)
	s.ask(c, "/"+a.Address)
	s.all(c, []string{"a"})
	s.apply(later.YAML())
	s.all(c, []string{"a", "later"})
	s.apply(last.YAML())
	s.again(c, "/"+last.Address, []string{"a", "last", "later"})
}

// Pods that come to a service later are known when it is asked for again.
func newEndpoints(s *scene) {
	a, b, vip := s.pod("a"), s.pod("b"), s.virtual()
	b.Labels["app"] = "a"
	s.apply(a.YAML(), s.service("a", vip))
	s.settle(a, []string{"a"}, "a")
	c := s.client(a, demanded, nil)
	s.ask(c, "/"+vip)
	s.all(c, []string{"a"}, "a")
	s.apply(b.YAML())
	s.again(c, "/"+vip, []string{"a", "b"}, "a")
}

func aliases(s *scene) {
	a, vip := s.pod("a"), s.virtual()
	s.apply(a.YAML(), s.service("a", vip))
	s.settle(a, []string{"a"}, "a")
	c := s.client(a, demanded, nil)
	s.ask(c, "/"+vip, "/"+a.Address)
	s.all(c, []string{"a"}, "a")
	for name, alias := range map[string]string{s.uid("a"): "/" + a.Address, s.hostname("a"): "/" + vip} {
		if got := c.resource(addressType, name).Aliases; !slices.Contains(got, alias) {
			s.Errorf("%s has aliases %q, without %s", name, got, alias)
		}
	}
	all := s.client(a, everything, nil)
	s.all(all, []string{"a"}, "a")
	for _, name := range []string{s.uid("a"), s.hostname("a")} {
		if got := all.resource(addressType, name).Aliases; len(got) != 0 {
			s.Errorf("%s has aliases %q for who has everything", name, got)
		}
	}
}

// Who is not interested any more in one thing is not told of its changes, and
// still of those of another.
func unsubscribe(s *scene) {
	a, b := s.pod("a"), s.pod("b")
	s.apply(a.YAML(), b.YAML())
	c := s.client(a, demanded, nil)
	s.ask(c, s.uid("a"), s.uid("b"))
	s.all(c, []string{"a", "b"})
	if err := c.Unsubscribe(addressType, s.uid("b")); err != nil {
		s.Fatal(err)
	}
	n, version := c.count(), c.resource(addressType, s.uid("a")).Version
	s.apply(s.service("a", s.virtual()))
	s.eventually("a has changed", func() bool { return c.resource(addressType, s.uid("a")).Version != version })
	if c.removed(n, addressType, s.uid("a")) || c.resource(addressType, s.uid("a")).Version == "" {
		s.Errorf("a was removed with b: %+v", c.since(n, addressType))
	}
	s.delete(b.Reference())
	s.delete(a.Reference())
	s.eventually("a is gone", func() bool { return c.removed(n, addressType, s.uid("a")) })
	if c.removed(n, addressType, s.uid("b")) {
		s.Errorf("responses %+v", c.since(n, addressType))
	}
}

// Who comes back and says what it has is told what has changed.
func reconnect(s *scene) {
	a, b, other := s.pod("a"), s.pod("b"), s.service("other", s.virtual())
	s.apply(a.YAML(), b.YAML(), other)
	c := s.client(a, everything, nil)
	s.all(c, []string{"a", "b"}, "other")
	n := c.count()
	c.cut()
	s.eventually("the client notices", func() bool { return !c.Status().Connected })
	s.apply(s.pod("c").YAML())
	s.delete(b.Reference())
	s.settle(a, []string{"a", "c"}, "other")
	c.mend()
	s.all(c, []string{"a", "c"}, "other")
	if !c.removed(n, addressType, s.uid("b")) {
		s.Errorf("the removal was not told: %+v", c.since(n, addressType))
	}
	for _, one := range c.since(n, addressType) {
		if slices.Contains(one.updated, s.uid("a")) || slices.Contains(one.updated, s.hostname("other")) || one.first {
			s.Errorf("what has not changed was sent again: %+v", one)
		}
	}
}

// settle waits until another client sees the state. Who asks by address before
// that is told no, and not told more.
func (s *scene) settle(pod istiod.Pod, pods []string, services ...string) {
	s.Helper()
	s.all(s.client(pod, everything, nil), pods, services...)
}

func reconnectOnDemand(s *scene) {
	a, b := s.pod("a"), s.pod("b")
	s.apply(a.YAML(), b.YAML())
	s.settle(a, []string{"a", "b"})
	c := s.client(a, demanded, nil)
	s.ask(c, "/"+a.Address, "/"+b.Address)
	s.all(c, []string{"a", "b"})
	n := c.count()
	c.cut()
	s.eventually("the client notices", func() bool { return !c.Status().Connected })
	s.delete(b.Reference())
	s.settle(a, []string{"a"})
	c.mend()
	s.all(c, []string{"a"})
	later := s.pod("later")
	s.apply(later.YAML())
	s.ask(c, "/"+later.Address)
	s.again(c, "/"+later.Address, []string{"a", "later"})
	for _, one := range c.since(n, addressType) {
		if one.first {
			s.Errorf("a first response after a reconnect: %+v", one)
		}
	}
}

// A NACK does not stop the stream, and does not keep the good ones from being used.
func rejection(s *scene) {
	good := s.pod("good")
	s.apply(good.YAML(), s.pod("bad").YAML())
	c := s.client(good, everything, func(r *recorder, _ *xds.Config) {
		r.reject = func(name string) error {
			if name == s.uid("bad") {
				return errors.New("it is called bad")
			}
			return nil
		}
	})
	s.all(c, []string{"good"})
	if got := c.Status().Types[0].NACK; !strings.Contains(got, s.uid("bad")+": it is called bad") {
		s.Errorf("NACK %q", got)
	}
	s.apply(s.pod("later").YAML())
	s.all(c, []string{"good", "later"})
	if !c.Status().Connected {
		s.Errorf("status %+v", c.Status())
	}
}

func foreignType(s *scene) {
	a := s.pod("a")
	s.apply(a.YAML())
	types := append([]xds.Type{{URL: "type.googleapis.com/outrigger.test.Unknown"}}, everything...)
	c := s.client(a, types, nil)
	s.all(c, []string{"a"})
	s.apply(s.pod("b").YAML())
	s.all(c, []string{"a", "b"})
	if !c.Status().Connected {
		s.Errorf("status %+v", c.Status())
	}
}
