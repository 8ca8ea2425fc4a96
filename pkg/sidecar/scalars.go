package sidecar

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// A Duration is written as Go writes it: 24h, 5s, 100ms.
type Duration time.Duration

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write a number and a unit, such as 24h, 5s or 100ms", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d Duration) String() string { return time.Duration(d).String() }

// A Count is a number from 0 to a million; 0 is the default of whatever it counts.
type Count int

// maxCount keeps what is computed from a Count from overflowing.
const maxCount = 1_000_000

// A Forward is a listener for an app that calls the sidecar by its address
// instead of being redirected: what arrives at Listen goes to Host and Port in the mesh.
type Forward struct {
	Listen string // host:port
	Host   string // hostname of a service, or an IP address
	Port   uint16 // of the service or of the address
}

// UnmarshalText reads "127.0.0.1:8080=github.tools.svc.cluster.local:80".
func (f *Forward) UnmarshalText(text []byte) error {
	listen, destination, ok := strings.Cut(string(text), "=")
	if !ok {
		return fmt.Errorf("%q is not a forward: write listen=host:port, as in 127.0.0.1:8080=github.tools.svc.cluster.local:80", text)
	}
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return fmt.Errorf("%q is not an address to listen on: write host:port, as in 127.0.0.1:8080", listen)
	}
	host, port, err := net.SplitHostPort(destination)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not a destination: write host:port, as in github.tools.svc.cluster.local:80", destination)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a port: write a number from 1 to 65535", port)
	}
	*f = Forward{listen, host, uint16(n)}
	return nil
}

// MarshalText writes the forward.
func (f Forward) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

func (f Forward) String() string {
	return f.Listen + "=" + net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
}
