package hbone

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// Tunnels that an identity may not open are answered 503, and told of: with the setting,
// but not each.
func TestATunnelThatAnIdentityMayNotOpenIsToldOf(t *testing.T) {
	for setting, limits := range map[string]Limits{
		"--tunnel-opens-per-second": {OpensPerSecond: 1},
		"--tunnels-per-peer":        {TunnelsPerPeer: 1, OpensPerSecond: 1 << 20},
	} {
		var mu sync.Mutex
		var told []string
		w := newWorld(t, options{handler: echo, server: ServerConfig{Limits: limits, Refused: func(_ netip.AddrPort, why error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, why.Error())
		}}})
		start, refused := time.Now(), 0
		for range 20 {
			_, err := w.dialer.Dial(ctxOf(t), w.hop(target), Header{})
			if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusServiceUnavailable {
				refused++
			}
		}
		w.close() // whoever tells has told
		if most := int(time.Since(start)/tellPause) + 1; refused < 10 || len(told) == 0 || len(told) > most {
			t.Errorf("%s: %d refused, told %d times, want 1 to %d", setting, refused, len(told), most)
		}
		for _, text := range told {
			if !strings.Contains(text, clientID.String()) || !strings.Contains(text, setting) {
				t.Errorf("%s is not named in %q", setting, text)
			}
		}
	}
}
