package sidecar

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/admission"
	"github.com/outrigger-mesh/outrigger/pkg/capture"
	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/hbone"
	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/inbound"
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/mcp"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/outbound"
	"github.com/outrigger-mesh/outrigger/pkg/route"
	"github.com/outrigger-mesh/outrigger/pkg/store"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
	"github.com/outrigger-mesh/outrigger/pkg/token"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// A Sidecar serves one workload.
type Sidecar struct {
	config  Config
	version string
	started time.Time
	self    mesh.Self
	level   *slog.LevelVar
	logger  *slog.Logger
	logs    []io.Closer
	quit    chan struct{} // closed when somebody asked us to stop
	stop    func()        // closes quit, once

	recorder *telemetry.Recorder
	source   source
	crl      *identity.CRL
	mutual   *identity.Mutual
	store    *store.Store
	register *admission.Register
	changes  *discovery.Discovery
	xds      *xds.Client
	demand   *discovery.Demand // what is asked of xds; nil if all of the mesh is
	policies *xds.Client       // for agent policies alone; nil if they have no connection of their own
	server   *hbone.Server
	tunnels  *hbone.Dialer
	balancer *route.Balancer
	tokens   *token.Verifier
	inbound  *inbound.Proxy
	outbound *outbound.Proxy
}

// build makes everything that does not need a listener.
func (s *Sidecar) build() error {
	for _, part := range []func() error{s.buildRecords, s.buildIdentity, s.buildConfiguration, s.buildTunnels, s.buildProxies, s.buildServer, s.gauges} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sidecar) buildRecords() (err error) {
	c := telemetry.Config{Format: telemetry.FormatText, Self: s.self, Version: s.version, Logger: s.logger, Level: s.level, AuditBlock: s.config.Records.AuditBlock}
	if s.config.Records.Format == "json" {
		c.Format = telemetry.FormatJSON
	}
	if c.AccessLog, err = s.openLog(s.config.Records.AccessLog); err != nil {
		return fmt.Errorf("open access log: %w", err)
	}
	if c.Audit, err = s.openLog(s.config.Records.Audit); err != nil {
		return fmt.Errorf("open audit record: %w", err)
	}
	s.recorder, err = telemetry.New(c)
	return err
}

func (s *Sidecar) openLog(path string) (io.Writer, error) {
	switch path {
	case Off, "":
		return nil, nil
	case "-":
		return os.Stdout, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s.logs = append(s.logs, f)
	return f, nil
}

func (s *Sidecar) buildTunnels() (err error) {
	s.tunnels, err = hbone.NewDialer(hbone.DialerConfig{
		Mutual: s.mutual, Dial: (&capture.Dialer{}).Dial, Limits: s.config.Tunnels.limits(),
		ConnectTimeout:   time.Duration(s.config.Tunnels.ConnectTimeout),
		HandshakeTimeout: time.Duration(s.config.Tunnels.HandshakeTimeout),
		AnswerTimeout:    time.Duration(s.config.Tunnels.AnswerTimeout),
	})
	return err
}

func (s *Sidecar) buildServer() (err error) {
	s.server, err = hbone.NewServer(hbone.ServerConfig{
		Mutual: s.mutual, Logger: s.logger, Refused: s.inbound.Refused, Limits: s.config.Tunnels.limits(),
		HandshakeTimeout: time.Duration(s.config.Tunnels.HandshakeTimeout),
	})
	return err
}

func (s *Sidecar) buildProxies() (err error) {
	dialer := &capture.Dialer{}
	s.tokens = token.New(token.Config{Dial: dialer.DialHost})
	layers := []inspect.Layer{mcp.New(mcp.Config{Tokens: s.tokens})}
	reserved := s.reservedPorts()
	doors, err := s.config.doors()
	if err != nil {
		return err
	}
	dial := doors.guard(dialer.Dial)
	limits := inspect.Limits{KeepAlive: time.Duration(s.config.Inspect.KeepAlive)}
	in := inbound.Config{
		Self: s.self, Store: s.store, Register: s.register, Recorder: s.recorder, Layers: layers,
		Dial: dial, ReservedPorts: reserved, Logger: s.logger, Limits: limits, ClientCert: s.config.Inbound.ClientCert,
	}
	if s.demand != nil {
		in.Find, in.Want = s.demand.Find, s.demand.Want
	}
	if in.MCPPorts, err = s.config.mcpPorts(); err != nil {
		return err
	}
	if s.config.Inbound.App != "" {
		if in.App, err = netip.ParseAddr(s.config.Inbound.App); err != nil {
			return fmt.Errorf("inbound.app: %w", err)
		}
	}
	if s.inbound, err = inbound.New(in); err != nil {
		return err
	}
	s.balancer = route.NewBalancer(route.BalancerConfig{})
	routes, err := route.New(route.Config{
		Self: &s.self, HBONEPort: s.config.HBONEPort(), AllowUnknown: s.config.Outbound.PassthroughUnknown, Balancer: s.balancer,
	})
	if err != nil {
		return err
	}
	s.outbound, err = outbound.New(outbound.Config{
		Self: s.self, Store: s.store, Register: s.register, Recorder: s.recorder, Layers: layers,
		Routes: routes, Balancer: s.balancer, Tunnels: s.tunnels, Dial: dial, ReservedPorts: reserved, Logger: s.logger, Limits: limits,
		Find: s.finder(),
	})
	return err
}

// reservedPorts are those we listen on ourselves: a connection to one of them
// on our own address would loop.
func (s *Sidecar) reservedPorts() []uint16 {
	var ports []uint16
	for _, address := range []string{s.config.Inbound.HBONE, s.config.Inbound.Plain, s.config.Outbound.Capture} {
		if p := portOf(address); p != 0 {
			ports = append(ports, p)
		}
	}
	return ports
}

// HBONEPort is the port on which peers are dialled: our own.
func (c *Config) HBONEPort() uint16 { return portOf(c.Inbound.HBONE) }

func portOf(address string) uint16 {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

// closeLogs ends what may still be fetched, the records and then the files they go to.
func (s *Sidecar) closeLogs() error {
	var errs []error
	if s.tokens != nil {
		s.tokens.Close()
	}
	if s.recorder != nil {
		errs = append(errs, s.recorder.Close())
	}
	for _, f := range s.logs {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
