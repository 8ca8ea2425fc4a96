package inbound

import (
	"crypto/x509"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

func TestTheAppIsToldOfTheCertificateOnlyIfAsked(t *testing.T) {
	parse := func(id string) mesh.Principal {
		p, err := mesh.ParsePrincipal(id)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	peer := &identity.Peer{Principal: parse("spiffe://td/ns/a/sa/agent"), Chain: []*x509.Certificate{{Raw: []byte("leaf")}}}
	self := mesh.Self{Principal: parse("spiffe://td/ns/b/sa/server")}
	for _, c := range []struct {
		name string
		ask  bool
		peer *identity.Peer
		want string
	}{
		{"not asked", false, peer, ""},
		{"nobody proved anything", true, &identity.Peer{}, ""},
		{"asked", true, peer, `By=spiffe://td/ns/b/sa/server;Hash=9f91161f43433e49a6de6db680d79f60159f2e4ac9172621a12846428158440b;Subject="";URI=spiffe://td/ns/a/sa/agent`},
	} {
		p := &Proxy{Config{Self: self, ClientCert: c.ask}}
		if got := p.clientCert(c.peer); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
