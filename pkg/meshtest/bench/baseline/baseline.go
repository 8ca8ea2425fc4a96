// Package baseline is what the sidecars are compared with: for each kind of
// relay the two processes of a pair, written as one would who needs no more
// than that; and the app behind all pairs. It knows nothing of the product.
package baseline

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof" // counts the goroutines
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// Kinds of pairs.
const (
	Raw  = "raw"  // TCP, io.Copy both ways, which on Linux is splice
	TLS  = "tls"  // as raw, with one mutual TLS connection between the two for each
	XNet = "xnet" // golang.org/x/net/http2's Server and Transport, CONNECT over mutual TLS, request bodies from an io.Pipe
	// XNetDirect is XNet with the app's connection itself as request body.
	XNetDirect = "xnet-direct"
	// HTTP relays HTTP/1 over plain TCP, request by request: net/http's Server and
	// httputil.ReverseProxy. It has no TLS and looks at nothing.
	HTTP = "http"
)

// Sides of a pair.
const (
	Client = "client"
	Server = "server"
)

// File names in Config.Certs.
const (
	RootFile       = "root.pem"
	ClientCertFile = "client.pem"
	ClientKeyFile  = "client.key"
	ServerCertFile = "server.pem"
	ServerKeyFile  = "server.key"
)

// Config says which process to be.
type Config struct {
	Kind   string
	Side   string
	Listen string // host:port
	To     string // of the client: its server
	App    string // host:port of the app
	Certs  string // directory of the PEM files
	Admin  string // host:port for profiles; "" for none
}

// Run is one side of a pair, until ctx ends.
func Run(ctx context.Context, c Config) error {
	if c.Admin != "" {
		ln, err := net.Listen("tcp", c.Admin)
		if err != nil {
			return err
		}
		var admin sync.WaitGroup
		defer admin.Wait()
		defer ln.Close()
		admin.Go(func() { _ = http.Serve(ln, nil) }) // ends with ln
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	switch c.Kind + " " + c.Side {
	case Raw + " " + Client:
		return serve(ctx, ln, func(down net.Conn) { relay(down, dialer("tcp", c.To)) })
	case Raw + " " + Server:
		return serve(ctx, ln, func(down net.Conn) { relay(down, dialer("tcp", c.App)) })
	case TLS + " " + Client:
		config, err := c.clientTLS()
		if err != nil {
			return err
		}
		return serve(ctx, ln, func(down net.Conn) {
			relay(down, func() (net.Conn, error) { return tls.Dial("tcp", c.To, config) })
		})
	case TLS + " " + Server:
		config, err := c.serverTLS()
		if err != nil {
			return err
		}
		return serve(ctx, tls.NewListener(ln, config), func(down net.Conn) { relay(down, dialer("tcp", c.App)) })
	case HTTP + " " + Client:
		return relayHTTP(ctx, ln, c.To)
	case HTTP + " " + Server:
		return relayHTTP(ctx, ln, c.App)
	case XNet + " " + Client, XNetDirect + " " + Client:
		return c.xnetClient(ctx, ln)
	case XNet + " " + Server, XNetDirect + " " + Server:
		return c.xnetServer(ctx, ln)
	}
	ln.Close()
	return fmt.Errorf("no side %q of kind %q", c.Side, c.Kind)
}

// Spin uses the time of all CPUs that nobody else wants.
func Spin(ctx context.Context) error {
	errs := make(chan error, runtime.NumCPU())
	for cpu := range runtime.NumCPU() {
		go func() {
			runtime.LockOSThread()
			if err := process.Spin(cpu); err != nil {
				errs <- err
				return
			}
			for ctx.Err() == nil {
				for range 1 << 20 {
				}
			}
			errs <- nil
		}()
	}
	var all []error
	for range runtime.NumCPU() {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func dialer(network, address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial(network, address) }
}

// serve serves connections until ctx ends, and then those that are open for a
// moment more. It takes over ln.
func serve(ctx context.Context, ln net.Listener, each func(net.Conn)) error {
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var open sync.WaitGroup
	defer waitBriefly(&open)
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		open.Go(func() { each(c) })
	}
}

// waitBriefly gives up after a second: what is still open then ends with the process.
func waitBriefly(open *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// A half can end its direction while the other goes on.
type half interface {
	net.Conn
	CloseWrite() error
}

func relay(down net.Conn, dial func() (net.Conn, error)) {
	defer down.Close()
	up, err := dial()
	if err != nil {
		return
	}
	defer up.Close()
	var back sync.WaitGroup
	back.Go(func() { pass(down.(half), up) })
	pass(up.(half), down)
	back.Wait()
}

// pass copies one direction and then ends it.
func pass(to half, from io.Reader) {
	_, _ = io.Copy(to, from) // either end says by itself that it is gone
	_ = to.CloseWrite()
}

func (c *Config) clientTLS() (*tls.Config, error) {
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(c.Certs, ClientCertFile), filepath.Join(c.Certs, ClientKeyFile))
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: root}, nil
}

func (c *Config) serverTLS() (*tls.Config, error) {
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(c.Certs, ServerCertFile), filepath.Join(c.Certs, ServerKeyFile))
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: root, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

func (c *Config) root() (*x509.CertPool, error) {
	data, err := os.ReadFile(filepath.Join(c.Certs, RootFile))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("no certificate in %s", RootFile)
	}
	return pool, nil
}

// stopServer ends an HTTP server with ctx.
func stopServer(ctx context.Context, s *http.Server) func() bool {
	return context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.Shutdown(end)
		_ = s.Close()
	})
}
