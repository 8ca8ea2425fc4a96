package sidecar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestOurOwnListenersAreNeverDialled(t *testing.T) {
	c := DefaultConfig()
	c.Workload.Addresses = []string{"10.0.0.7", "fd00::7"}
	c.Outbound.Forwards = []Forward{{Listen: "127.0.0.1:8080", Host: "a.b", Port: 80}, {Listen: "10.0.0.7:8081", Host: "a.b", Port: 80}, {Listen: ":8082", Host: "a.b", Port: 80}}
	d, err := c.doors()
	if err != nil {
		t.Fatal(err)
	}
	reached := errors.New("reached")
	dial := d.guard(func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, reached })
	for to, loops := range map[string]bool{
		"127.0.0.1:15001": true, "127.9.9.9:15001": true, "[::1]:15006": true, "10.0.0.7:15008": true, "[fd00::7]:15008": true,
		"[::ffff:10.0.0.7]:15008": true, "0.0.0.0:15001": true, "[::]:15001": true,
		"127.0.0.1:8080": true, "0.0.0.0:8080": true, "10.0.0.7:8080": false, "127.0.0.2:8080": false,
		"10.0.0.7:8081": true, "127.0.0.1:8081": false, "127.0.0.1:8082": true, "10.0.0.7:8082": true,
		"10.0.0.8:15008": false, "10.0.0.8:15001": false, "10.0.0.7:80": false, "127.0.0.1:9000": false,
	} {
		_, err := dial(t.Context(), netip.MustParseAddrPort(to))
		if want := map[bool]error{true: errLoop, false: reached}[loops]; !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", to, err, want)
		}
	}
}
