package meshtest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
)

// An open connection is visible in the metrics of both sidecars, with the bytes
// that it has carried so far, as in ztunnel's.
func TestMetricsShowAConnectionWhileItLives(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{})
	const size = 1 << 20
	ln := m.ListenApp()
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.CopyN(io.Discard, c, size)
		_, _ = c.Write([]byte("answer"))
		_, _ = io.Copy(io.Discard, c)
	}()
	c, err := net.Dial("tcp", m.Agent)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len("answer"))); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []netip.Addr{m.AgentIP, m.ServerIP} {
		m.Eventually(func() error {
			for name, want := range map[string]float64{
				"istio_tcp_connections_opened_total": 1, "istio_tcp_connections_closed_total": 0,
				"istio_tcp_received_bytes_total": size, "istio_tcp_sent_bytes_total": float64(len("answer")),
			} {
				got, err := total(ip, name)
				if err != nil {
					return err
				}
				if got != want {
					return fmt.Errorf("%v: %s is %v, want %v", ip, name, got, want)
				}
			}
			return nil
		})
	}
}

// total is the sum of a metric of a workload's sidecar over all labels.
func total(ip netip.Addr, name string) (float64, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + netip.AddrPortFrom(ip, 15020).String() + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return 0, err
	}
	var sum float64
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name+"{") {
			continue
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}
