package inbound_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/inbound"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// A peer without a tunnel gets no answer of ours: it must not take a refusal for an empty one.
func TestARefusalWithoutATunnelIsAReset(t *testing.T) {
	here := mesh.Self{Principal: self, Name: "server", Namespace: "tools", Addresses: []netip.Addr{own}}
	s := store.New(store.Config{Self: here})
	s.Apply(store.Change{Workloads: workload(func(*mesh.Workload) {})})
	var log bytes.Buffer
	recorder, err := telemetry.New(telemetry.Config{AccessLog: &log})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := inbound.New(inbound.Config{
		Self: here, Store: s, Register: admission.NewRegister(s), Recorder: recorder,
		Dial: func(_ context.Context, app netip.AddrPort) (net.Conn, error) {
			if app.Port() == 81 {
				panic("a bug")
			}
			return nil, syscall.ECONNREFUSED
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]netip.AddrPort{
		"no place of ours": netip.MustParseAddrPort("127.0.9.2:80"),
		"no app there":     netip.AddrPortFrom(own, 80),
		"a bug of ours":    netip.AddrPortFrom(own, 81),
	} {
		peer, taken := pair(t)
		proxy.Plain(context.Background(), &capture.Conn{TCPConn: taken, Original: to}, to)
		_ = peer.SetDeadline(time.Now().Add(20 * time.Second)) // fails only on a closed connection
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
		peer.Close()
	}
	recorder.Close()
	if s := log.String(); !strings.Contains(s, own.String()+":80") || !strings.Contains(s, "--app-address") {
		t.Errorf("the record does not say what to do where no app listens: %s", s)
	}
}
