package meshtest_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
)

const (
	rotationLife  = 12 * time.Second // of a certificate: it is renewed after about half of it
	rotations     = 2                // of each sidecar, at least
	requests      = 100_000          // at least
	callers       = 4
	perConnection = 200 // requests; then a new tunnel is opened
	pipelined     = 20  // requests at once
	requestSize   = 64
)

// Certificates that both ends replace every few seconds cost no request: of
// 100,000, over tunnels that come and go, each is answered by its own bytes.
func TestRotationUnderLoadLosesNoRequest(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{TTL: rotationLife})
	serveEcho(t, m)
	var answered atomic.Int64
	var turned [2]atomic.Int64
	var over atomic.Bool
	var work sync.WaitGroup
	for i, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		work.Go(func() { countRotations(t, ip, &turned[i], &over) })
	}
	started := time.Now()
	for range callers {
		work.Go(func() {
			for !over.Load() {
				if err := converse(m.Agent); err != nil {
					t.Errorf("after %d requests: %v", answered.Load(), err)
					over.Store(true)
				}
				answered.Add(perConnection)
				if answered.Load() >= requests && min(turned[0].Load(), turned[1].Load()) >= rotations {
					over.Store(true)
				}
				if time.Since(started) > 3*time.Minute {
					t.Errorf("only %d and %d rotations", turned[0].Load(), turned[1].Load())
					over.Store(true)
				}
			}
		})
	}
	work.Wait()
	if t.Failed() {
		logFailures(t, m)
	}
	t.Logf("%d requests in %v across %d and %d rotations", answered.Load(), time.Since(started).Round(time.Millisecond), turned[0].Load(), turned[1].Load())
}

// converse sends requests over one connection and compares their answers.
func converse(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	var sent, got [pipelined * requestSize]byte
	source := rand.NewChaCha8([32]byte{byte(time.Now().UnixNano())})
	for i := range perConnection / pipelined {
		source.Read(sent[:])
		if _, err := c.Write(sent[:]); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
		if _, err := io.ReadFull(c, got[:]); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
		if !bytes.Equal(sent[:], got[:]) {
			return fmt.Errorf("batch %d came back changed", i)
		}
	}
	return nil
}

// countRotations counts how often the certificate of the sidecar at ip changes.
func countRotations(t *testing.T, ip netip.Addr, n *atomic.Int64, over *atomic.Bool) {
	last := ""
	for ; !over.Load(); time.Sleep(100 * time.Millisecond) {
		d, err := configDump(ip)
		if err != nil || len(d.Certificates[0].CertChain) == 0 {
			t.Errorf("sidecar %v has no certificate: %v", ip, err)
			return
		}
		if serial := d.Certificates[0].CertChain[0].SerialNumber; serial != last {
			if last != "" {
				n.Add(1)
			}
			last = serial
		}
	}
}
