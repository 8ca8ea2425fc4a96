package hbone

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/outrigger-mesh/outrigger/pkg/gate"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Whoever finds in a record that honest traffic was kept out learns there what to change.
func TestARefusalNamesTheSettingThatLetsMoreThrough(t *testing.T) {
	synctest.Test(t, refusals)
}

func refusals(t *testing.T) {
	limits := Limits{ConnsPerPeer: 1, ConnsPerSecond: 2, NoisePerSecond: 1, ResetsPerSecond: 1}.withDefaults()
	told := make(chan error, 1)
	s := newServer(ServerConfig{Limits: limits, Refused: func(_ netip.AddrPort, why error) { told <- why }}, nil)
	gated := func(b gate.Bound) error {
		a, z := net.Pipe()
		defer z.Close()
		defer a.Close()
		s.refused(a, &gate.TooManyError{Bound: b, Tell: true})
		return <-told
	}
	admitted := func(name string, times int, leaves bool) (err error) {
		p := &identity.Peer{Principal: mesh.NewPrincipal("cluster.local", "agents", name)}
		for range times {
			if _, err = s.admit(p); err == nil && leaves {
				s.dismiss(p.Principal)
			}
		}
		return err
	}
	b := newBudget(limits, nil)
	for setting, err := range map[string]error{
		"--tunnel-handshakes-per-source": gated(gate.AtOnce),
		"--tunnel-strangers-per-second":  gated(gate.Strangers),
		"--tunnel-conns-per-second":      gated(gate.PerSecond),
		"--tunnel-conns-per-second ":     admitted("often", 2*limits.ConnsPerSecond+1, true),
		"--tunnel-conns-per-peer":        admitted("many", limits.ConnsPerPeer+1, false),
		"--tunnel-noise-per-second":      b.noise(5*limits.NoisePerSecond + 1),
		"--tunnel-resets-per-second":     b.resetsOf(5*limits.ResetsPerSecond + 1),
	} {
		if err == nil || !strings.HasSuffix(err.Error(), strings.TrimSpace(setting)) {
			t.Errorf("%v, which should name %s", err, setting)
		}
	}
}

// resetsOf pays for n streams that we end.
func (b *budget) resetsOf(n int) (err error) {
	for range n {
		err = b.refusal()
	}
	return err
}
