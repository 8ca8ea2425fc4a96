package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/badcert"
)

// BenchmarkHandshake is a full handshake, both ends in this process, over TCP
// on loopback: what a new connection costs. "known" peers were seen before.
func BenchmarkHandshake(b *testing.B) {
	for _, c := range []struct {
		name  string
		known bool
	}{{"known", true}, {"new", false}} {
		b.Run(c.name, func(b *testing.B) {
			a := newAuthority(b, local)
			client, server := newMutual(b, a, planner), newMutual(b, a, github)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			do(b, err)
			defer ln.Close()
			accepted := make(chan result)
			go func() {
				defer close(accepted)
				for {
					raw, err := ln.Accept()
					if err != nil {
						return
					}
					conn, err := server.Server(context.Background(), raw)
					accepted <- result{conn, err}
				}
			}()
			expected := []mesh.Principal{github}
			b.ReportAllocs()
			for b.Loop() {
				if !c.known {
					client.verified, server.verified = cache{}, cache{}
				}
				raw, err := net.Dial("tcp", ln.Addr().String())
				do(b, err)
				near, err := client.Client(context.Background(), raw, expected)
				far := <-accepted
				do(b, errors.Join(err, far.err))
				near.NetConn().Close()
				far.conn.NetConn().Close()
			}
		})
	}
}

func BenchmarkRecheck(b *testing.B) {
	for _, depth := range []string{"leaf", "leaf and intermediate"} {
		for _, known := range []bool{true, false} {
			name := depth + ", new"
			if known {
				name = depth + ", known"
			}
			b.Run(name, func(b *testing.B) {
				w := newWorld(b)
				by := w.Root
				if depth != "leaf" {
					by = w.Signing
				}
				p := &Peer{usage: x509.ExtKeyUsageServerAuth, expected: []mesh.Principal{planner}}
				for _, der := range by.Leaf(plannerID, badcert.NewKey(), nil).Certificate {
					p.Chain = append(p.Chain, must(x509.ParseCertificate(der)))
				}
				b.ReportAllocs()
				for b.Loop() {
					if !known {
						w.mutual.verified = cache{}
					}
					do(b, w.mutual.Recheck(p))
				}
			})
		}
	}
}

func BenchmarkParseSVID(b *testing.B) {
	i := must(newAuthority(b, local).Issue(planner, time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		must(ParseSVID(i.CertPEM, i.KeyPEM, i.RootPEM))
	}
}
