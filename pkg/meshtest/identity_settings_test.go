package meshtest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sidecar"
)

// An alias is admitted if it chains to the own roots; a domain that nobody
// listed is not, whoever signed it.
func TestAliasesAreExplicit(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Adjust: func(account string, c *sidecar.Config) {
		c.Identity.TrustDomainAliases = []string{"old.local"}
	}})
	serveEcho(t, m)
	for _, c := range []struct {
		name, domain string
		ours         bool // whether the mesh's root signs
		ok           bool
	}{
		{"our own", "cluster.local", true, true},
		{"alias by our root", "old.local", true, true},
		{"unlisted domain by our root", "other.local", true, false},
		{"alias by another root", "old.local", false, false},
	} {
		id := mesh.NewPrincipal(c.domain, "agents", "planner")
		var p *peer
		if c.ours {
			p = peerOf(t, m, foreign(t, m.Dir, id))
		} else {
			p = newPeer(t, m, newAuthority(t, c.domain), id)
		}
		tunnel, err := p.open(t, m)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			tunnel.Close()
		}
	}
}

// A CRL that cannot be read admits nobody, and every place where a person looks
// says so; once it is mended all is well.
func TestABadCRLIsSeenEverywhere(t *testing.T) {
	var crl string
	m := meshtest.New(t, meshtest.Config{WithoutControl: true, Adjust: func(account string, c *sidecar.Config) {
		if account != "server" {
			return
		}
		crl = filepath.Join(filepath.Dir(c.Discovery.Root), "crl.pem")
		c.Identity.CRLFile = crl
		if err := os.WriteFile(crl, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}})
	serveEcho(t, m)
	m.StartControl()
	m.Eventually(func() error { // nothing else is missing
		text, _ := m.Ready(m.ServerIP)
		if strings.TrimSpace(text) != "not ready, pending: certificate revocation list" {
			return fmt.Errorf("readiness says %q", text)
		}
		return nil
	})
	m.Eventually(func() error {
		if text, ok := m.Ready(m.AgentIP); !ok {
			return errors.New(text)
		}
		return nil
	})
	if c, err := call(m); err == nil {
		c.Close()
		t.Error("a peer was admitted although nobody can tell whether it is revoked")
	}
	record(m, "server", "revocation", crl)
	d, err := configDump(m.ServerIP)
	if err != nil || d.Revocations == nil || !strings.Contains(d.Revocations.Problem, crl) {
		t.Errorf("the dump says %+v, %v", d.Revocations, err)
	}
	metric := func(name string) string {
		text, err := get("http://" + netip.AddrPortFrom(m.ServerIP, 15020).String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				return strings.TrimSpace(value)
			}
		}
		return "absent"
	}
	if v := metric("outrigger_crl_staleness_seconds"); v == "0" || v == "absent" {
		t.Errorf("staleness is %s", v)
	}
	if v := metric("outrigger_certificate_expiry_timestamp_seconds"); v == "0" || v == "absent" {
		t.Errorf("certificate expiry is %s", v)
	}
	page, err := get("http://" + netip.AddrPortFrom(m.ServerIP, 15000).String() + "/")
	if err != nil || !strings.Contains(page, "nobody is admitted") {
		t.Errorf("the status page does not tell: %v\n%s", err, page)
	}
	replace(t, crl, revoke(t, m.Dir))
	m.WaitReady()
	m.Eventually(func() error {
		c, err := call(m)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if v, n := metric("outrigger_crl_staleness_seconds"), metric("outrigger_crl_lists"); v != "0" || n != "1" {
		t.Errorf("after it was mended staleness is %s with %s lists", v, n)
	}
}

// A CA that cannot be reached is named where a person looks, with the remedy.
func TestACAOutOfReachIsSeenInTheDump(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{WithoutControl: true})
	m.Eventually(func() error {
		d, err := configDump(m.AgentIP)
		if err != nil {
			return err
		}
		for _, part := range []string{"Unavailable: ", "connection refused", "check the address"} {
			if state := d.Certificates[0].State; !strings.Contains(state, part) {
				return fmt.Errorf("the state is %q and does not say %q", state, part)
			}
		}
		return nil
	})
}

func TestTLS12IsRefusedUnlessItIsAllowed(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		m := meshtest.New(t, meshtest.Config{Adjust: func(account string, c *sidecar.Config) {
			c.Identity.AllowTLS12 = allowed
		}})
		svid := newPeer(t, m, meshAuthority(t, m.Dir), planner).svid
		err := greet(m, &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*svid.Certificate},
		})
		if (err == nil) != allowed {
			t.Errorf("allowed=%v: %v", allowed, err)
		}
	}
}

// greet shakes hands with the server's sidecar and waits for its first byte,
// which comes once the client is admitted.
func greet(m *meshtest.Mesh, config *tls.Config) (err error) {
	c, err := tls.Dial("tcp", m.Hop("").Address.String(), config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetDeadline(time.Now().Add(limit))
	_, err = c.Read(make([]byte, 1))
	return err
}
