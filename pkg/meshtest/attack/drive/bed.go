package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/demo"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
)

const (
	network = "127.0.24.0/24"
	scenery = "attack.json"
)

// A scene is where everything is; the attacker's process reads it from the state directory.
type scene struct {
	State  string                // directory
	Tunnel string                // where the sidecar takes tunnels
	Plain  string                // where it takes redirected connections from outside the mesh
	Out    string                // where it takes redirected connections of its app
	Server string                // SPIFFE ID
	Base   netip.Addr            // an address of the mesh's network
	Apps   map[attack.App]string // authorities
	Echo   string                // authority
}

func readScene(state string) (*scene, error) {
	text, err := os.ReadFile(filepath.Join(state, scenery))
	if err != nil {
		return nil, err
	}
	s := &scene{}
	return s, json.Unmarshal(text, s)
}

func (s *scene) at(last byte) netip.Addr {
	b := s.Base.As4()
	b[3] = last
	return netip.AddrFrom4(b)
}

func (s *scene) server() mesh.Principal {
	p, _ := mesh.ParsePrincipal(s.Server) // the demo's own
	return p
}

// identity is one that the mesh's own authority vouches for.
func (s *scene) identity(namespace, account string) (*identity.Mutual, error) {
	ca, err := authority.Load(filepath.Join(s.State, "ca"))
	if err != nil {
		return nil, err
	}
	p := mesh.NewPrincipal(s.server().TrustDomain(), namespace, account)
	issued, err := ca.Issue(p, time.Hour)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.RootPEM())
	return &identity.Mutual{Source: identity.NewMemory(&identity.SVID{
		Principal: p, Certificate: &cert, Bundles: map[string]*x509.CertPool{p.TrustDomain(): roots},
		NotBefore: cert.Leaf.NotBefore, NotAfter: cert.Leaf.NotAfter,
	})}, nil
}

// A bed is the demo's mesh, apps behind one of its sidecars, and a client.
type bed struct {
	*scene
	state   string
	mesh    *exec.Cmd
	sidecar int // process ID
	dialer  *hbone.Dialer
	apps    *exec.Cmd // those that attackers ask for
	echoes  net.Listener
}

func start(ctx context.Context, programs string) (b *bed, err error) {
	state, err := os.MkdirTemp("", "outrigger-attack-")
	if err != nil {
		return nil, err
	}
	made := &bed{state: state}
	b = made
	defer func() {
		if err != nil {
			made.stop()
		}
	}()
	e, err := b.launch(ctx, filepath.Join(programs, "outrigger"))
	if err != nil {
		return nil, err
	}
	if err := b.furnish(e); err != nil {
		return nil, err
	}
	m, err := b.identity("agents", "planner")
	if err != nil {
		return nil, err
	}
	if b.dialer, err = hbone.NewDialer(hbone.DialerConfig{Mutual: m, MaxConns: 1}); err != nil {
		return nil, err
	}
	for range 200 { // the first ones are slower
		if err := b.echo(ctx); err != nil {
			return nil, fmt.Errorf("echo through the sidecar: %w", err)
		}
	}
	return b, nil
}

// launch starts the mesh and waits for it.
func (b *bed) launch(ctx context.Context, outrigger string) (*demo.Endpoints, error) {
	log, err := os.Create(filepath.Join(b.state, "demo.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.mesh = exec.Command(outrigger, "demo", "--keep", "--state", b.state, "--network", network)
	b.mesh.Stdout, b.mesh.Stderr, b.mesh.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	if err := b.mesh.Start(); err != nil {
		b.mesh = nil
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			return nil, err
		}
		if demo.IsKeeping(text) {
			return demo.ReadEndpoints(b.state)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the demo is not up: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// furnish starts the apps beside the demo's MCP server and describes the scene.
func (b *bed) furnish(e *demo.Endpoints) error {
	workload, err := netip.ParseAddrPort(e.Server.Workload)
	if err != nil {
		return err
	}
	b.scene = &scene{State: b.state, Server: e.Server.Identity, Base: workload.Addr(), Apps: map[attack.App]string{}}
	for _, s := range e.Sidecars {
		if s.Identity == e.Server.Identity {
			b.Tunnel, b.Plain, b.Out, b.sidecar = s.Inbound, s.Plain, s.Outbound, e.Processes["sidecar-"+s.Name]
		}
	}
	if b.Apps, err = b.victims(workload.Addr()); err != nil {
		return err
	}
	ln, err := listen(workload.Addr(), func(c net.Conn) { _, _ = io.Copy(c, c) })
	if err != nil {
		return err
	}
	b.echoes, b.Echo = ln, ln.Addr().String()
	text, err := json.Marshal(b.scene)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.state, scenery), text, 0o600)
}

// echo sends a word through a tunnel of its own.
func (b *bed) echo(ctx context.Context) error {
	hop := mesh.Hop{Authority: b.Echo, Expected: []mesh.Principal{b.server()}}
	var err error
	if hop.Address, err = netip.ParseAddrPort(b.Tunnel); err != nil {
		return err
	}
	tunnel, err := b.dialer.Dial(ctx, hop, hbone.Header{})
	if err != nil {
		return err
	}
	defer tunnel.Close()
	if _, err := tunnel.Write([]byte("word")); err != nil {
		return err
	}
	if err := tunnel.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(tunnel)
	if err == nil && string(got) != "word" {
		err = fmt.Errorf("%q came back", got)
	}
	return err
}

func (b *bed) stop() {
	if b.dialer != nil {
		b.dialer.Close()
	}
	if b.echoes != nil {
		b.echoes.Close()
	}
	if b.apps != nil {
		_ = b.apps.Process.Kill() // it may have ended
		_ = b.apps.Wait()         // it was killed
	}
	if b.mesh != nil {
		err := errors.Join(b.mesh.Process.Signal(syscall.SIGTERM), b.mesh.Wait())
		if err != nil {
			fmt.Fprintln(os.Stderr, "attack: the demo's end:", err)
		}
	}
	os.RemoveAll(b.state)
}
