package demo

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMistakesAreToldBeforeAnythingStarts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"a server elsewhere", func(c *Config) { c.Server = "http://example.com:80/mcp" }, "loopback"},
		{"a server with TLS", func(c *Config) { c.Server = "https://127.0.0.1:9000/mcp" }, "plain HTTP"},
		{"a server without a port", func(c *Config) { c.Server = "http://127.0.0.1/mcp" }, "no port"},
		{"a network elsewhere", func(c *Config) { c.Network = "10.0.0.0/24" }, "loopback"},
		{"a network that is too small", func(c *Config) { c.Network = "127.0.15.0/30" }, "room"},
		{"a policy that is not there", func(c *Config) { c.Policy = filepath.Join(t.TempDir(), "none.yaml") }, "--policy"},
		{"an address that is none", func(c *Config) { c.Listen = "8080" }, "--listen"},
	} {
		config := DefaultConfig()
		config.Out, config.State = io.Discard, t.TempDir()
		c.change(&config)
		err := Run(context.Background(), config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, which does not say %q", c.name, err, c.want)
		}
	}
}

func TestATakenPortIsToldWithTheFlagThatChangesIt(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := DefaultConfig()
	config.Out, config.State, config.Listen = io.Discard, t.TempDir(), taken.Addr().String()
	if err := Run(context.Background(), config); err == nil || !strings.Contains(err.Error(), "--listen") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("agent's address: %v", err)
	}

	hbone, err := net.Listen("tcp", "127.213.7.21:15008")
	if err != nil {
		t.Fatal(err)
	}
	defer hbone.Close()
	config.Listen, config.Network = "", "127.213.7.0/24"
	if err := Run(context.Background(), config); err == nil || !strings.Contains(err.Error(), "--hbone-port") || !strings.Contains(err.Error(), "127.213.7.21:15008") {
		t.Errorf("HBONE port: %v", err)
	}
}

func TestWithoutAPolicyAUsersServerIsOpenAndItsPortIsDeclared(t *testing.T) {
	p := allowAll(9123)
	for _, part := range []string{"number: 9123", "protocol: MCP", `methods: ["*"]`} {
		if !strings.Contains(p, part) {
			t.Errorf("policy lacks %q", part)
		}
	}
}
