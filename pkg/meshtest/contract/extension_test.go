//go:build istiod

package contract

import (
	"fmt"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

const extensionName = "outrigger.contract"

// ecds is a subscription as istiod serves it: the responses are complete, and
// absence means that it is gone.
var ecds = append([]xds.Type{{URL: extensionType, Names: []string{extensionName}, Complete: true, Repeated: true}}, everything...)

// filter is an EnvoyFilter that carries a word to the pods that have a label.
func filter(namespace, name, selector, word string) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {namespace: %s, name: %s}
spec:
%s  configPatches:
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: %s
        typed_config:
          "@type": type.googleapis.com/xds.type.v3.TypedStruct
          type_url: type.googleapis.com/outrigger.test.Word
          value: {word: %s}
`, namespace, name, selector, extensionName, word)
}

const toServers = "  workloadSelector: {labels: {app: server}}\n"

// words waits until a client holds the extension with exactly that content.
func (s *scene) bodies(c *client, what string, want int) {
	s.Helper()
	s.eventually(what, func() bool { return len(c.within(extensionType, extensionName)) == want })
}

func extensionConfigs(s *scene) {
	server, other := s.pod("server"), s.pod("other")
	s.apply(server.YAML(), other.YAML())
	c, elsewhere := s.client(server, ecds, nil), s.client(other, ecds, nil)
	s.all(c, []string{"other", "server"})
	s.all(elsewhere, []string{"other", "server"})
	s.bodies(c, "nothing", 0)
	s.apply(filter(s.namespace, "one", toServers, "first"))
	s.bodies(c, "the extension arrives", 1)
	before := string(c.resource(extensionType, extensionName).Body.GetValue())
	s.apply(filter(s.namespace, "one", toServers, "second"))
	s.eventually("the extension changes", func() bool { return string(c.resource(extensionType, extensionName).Body.GetValue()) != before })
	n := c.count()
	s.delete(filter(s.namespace, "one", toServers, "second"))
	s.bodies(c, "the extension is gone", 0)
	if !c.removed(n, extensionType, extensionName) {
		s.Errorf("responses %+v", c.since(n, extensionType))
	}
	if got := elsewhere.within(extensionType, ""); len(got) > 0 {
		s.Errorf("a pod that is not selected has %q", got)
	}
}

// Of two filters with one name both arrive in one response: the root namespace's first.
func repeatedExtensionConfigs(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML(), filter(s.namespace, "narrow", toServers, "narrow"), filter(istiod.System, "wide", "", "wide"))
	c := s.client(server, ecds, nil)
	both := []string{extensionName, extensionName}
	s.eventually("both arrive together", func() bool {
		return slices.ContainsFunc(c.since(0, extensionType), func(one response) bool { return slices.Equal(one.updated, both) })
	})
	n := c.count()
	s.delete(filter(istiod.System, "wide", "", "wide"))
	s.eventually("one is left", func() bool {
		return slices.ContainsFunc(c.since(n, extensionType), func(one response) bool { return slices.Equal(one.updated, both[:1]) })
	})
}
