//go:build istiod

package contract

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

const (
	crowd    = 3000 // pods
	together = 250  // pods that are applied in one go
)

// manyPods: all of them arrive in one first response and are known at once.
func manyPods(s *scene) {
	server := s.pod("server")
	s.apply(server.YAML())
	var work errgroup.Group
	work.SetLimit(16)
	var gone []string
	for from := 0; from < crowd; from += together {
		var text strings.Builder
		for i := from; i < from+together; i++ {
			p := istiod.Pod{Namespace: s.namespace, Name: fmt.Sprint("p", i), ServiceAccount: "crowd", Address: fmt.Sprintf("10.12.%d.%d", i/250, i%250+1)}
			text.WriteString(p.Alone())
			gone = append(gone, p.Reference())
		}
		work.Go(func() error { return s.tier.Apply(s.Context(), text.String()) })
	}
	if err := work.Wait(); err != nil {
		s.Fatal(err)
	}
	j := s.judge(server)
	s.eventually("all have arrived", func() bool { return len(j.within(addressType, s.uid("p"))) == crowd })
	began := time.Now()
	again := s.judge(server)
	s.Logf("%s: %d pods known %v after the sidecar began", s.tier.name(), crowd, time.Since(began).Round(time.Millisecond))
	if first := again.since(0, addressType)[0]; len(first.updated) < crowd || !first.first {
		s.Errorf("the first response has %d resources", len(first.updated))
	}
	few := s.client(server, demanded, nil)
	s.ask(few, "/"+server.Address)
	s.all(few, []string{"server"})
	s.delete(gone[0])
	s.eventually("a removal", func() bool { return len(j.within(addressType, s.uid("p"))) == crowd-1 })
	s.all(few, []string{"server"}) // who asks for one is told of no other
}
