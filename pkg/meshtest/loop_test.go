package meshtest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// A connection that leads back to the sidecar ends in a reset and a handful of
// records, whatever it was led through. Unknown destinations may pass here, so
// that nothing but the guard stands in the way.
func TestAConnectionToOurselvesEndsInAnErrorNotInALoop(t *testing.T) {
	var entrances []string
	m := meshtest.New(t, meshtest.Config{Policy: policy, Adjust: func(account string, c *sidecar.Config) {
		if account != "agent" {
			return
		}
		ip := netip.MustParseAddr(c.Workload.Addresses[0])
		c.Outbound.PassthroughUnknown = true
		c.Outbound.Capture = netip.AddrPortFrom(ip, 15001).String()
		entrances = append(entrances, c.Outbound.Capture, c.Inbound.Plain) // dialled themselves, not redirected
		next := uint16(18000)
		lead := func(host string, port uint16) {
			next++
			listen := netip.AddrPortFrom(ip, next).String()
			c.Outbound.Forwards = append(c.Outbound.Forwards, sidecar.Forward{Listen: listen, Host: host, Port: port})
			entrances = append(entrances, listen)
		}
		for _, port := range []uint16{15001, 15006, 15008, 18001, 18005} {
			lead(ip.String(), port)
		}
		lead("localhost", 18006)                                     // nothing of ours listens on 127.0.0.1
		lead("agent.agents.svc.cluster.local", meshtest.ServicePort) // unknown: no such service
	}})
	for _, to := range entrances {
		c, err := net.DialTimeout("tcp", to, 10*time.Second)
		if errors.Is(err, syscall.ECONNRESET) { // already
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second)) // fails only on a closed connection
		_, _ = c.Write([]byte("hello"))                         // it may be refused already
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v; want a reset", to, n, err)
		}
		c.Close()
	}
	m.Eventually(func() error {
		log, err := os.ReadFile(filepath.Join(m.Dir, "access-agent"))
		if err != nil {
			return err
		}
		if n := bytes.Count(log, []byte("\n")); n < len(entrances) || n > 2*len(entrances) {
			return fmt.Errorf("%d records of %d connections", n, len(entrances))
		}
		return nil
	})
}

// The other way round: a peer that asks for our own ports is answered 503, as ztunnel does.
func TestATunnelToOurOwnPortsIsRefused(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy, Adjust: func(account string, c *sidecar.Config) {
		if account == "server" {
			c.Outbound.Capture = netip.AddrPortFrom(netip.MustParseAddr(c.Workload.Addresses[0]), 15001).String()
			c.Outbound.Forwards = []sidecar.Forward{{Listen: netip.AddrPortFrom(netip.MustParseAddr(c.Workload.Addresses[0]), 18001).String(), Host: meshtest.Service, Port: meshtest.ServicePort}}
		}
	}})
	d := dialer(t, m, "agent")
	for _, port := range []uint16{15001, 15006, 15008, 18001} {
		_, err := d.Dial(t.Context(), m.Hop(netip.AddrPortFrom(m.ServerIP, port).String()), hbone.Header{})
		if status, ok := errors.AsType[*hbone.StatusError](err); !ok || status.Status != http.StatusServiceUnavailable {
			t.Errorf("port %d: %v, want 503", port, err)
		}
	}
}
