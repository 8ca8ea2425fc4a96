// Package free finds addresses of this machine that nobody uses, for programs of
// tests that must be told where to listen.
package free

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below those that the system gives to clients, so that
// no connection of another test comes to have one between our look and the
// program's listening.
const (
	firstPort = 12_000
	lastPort  = 32_000
)

// Ports answers n distinct ports of 127.0.0.1 that nobody listens on.
func Ports(n int) ([]int, error) {
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held, ports = append(held, l), append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

// Network is a loopback /24, one of 51,200, in which hardly anybody else is.
func Network() string { return fmt.Sprintf("127.%d.%d.0/24", 20+rand.IntN(200), rand.IntN(256)) }
