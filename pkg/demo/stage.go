package demo

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	adminPort   = 15000
	outPort     = 15001
	plainPort   = 15006
	statusPort  = 15014
	metricsPort = 15020
	readyPort   = 15021
)

// A stage is the running processes of a demo.
type stage struct {
	*layout
	processes []*process // in the order they were started
}

func newStage(p *layout) *stage { return &stage{layout: p} }

// start brings everything up, the control plane first.
func (m *stage) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := m.portsFree(); err != nil {
		return err
	}
	if err := m.startControl(ctx); err != nil {
		return err
	}
	if err := m.startServer(ctx); err != nil {
		return err
	}
	for _, w := range m.workloads() {
		if err := m.startSidecar(ctx, w); err != nil {
			return err
		}
	}
	return m.writeEndpoints()
}

// portsFree tells of a taken port before anything is started.
func (m *stage) portsFree() error {
	wanted := map[string]string{m.control.at(m.config.XDSPort): "--network or --xds-port"}
	for _, w := range m.workloads() {
		wanted[w.at(m.config.HBONEPort)] = "--network or --hbone-port"
		for _, port := range []int{adminPort, outPort, plainPort, metricsPort, readyPort} {
			wanted[w.at(port)] = "--network"
		}
	}
	if m.config.Server == "" {
		wanted[m.server.at(int(m.serverPort))] = "--network"
	}
	for address, flag := range wanted {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%w: is another demo running? choose other addresses with %s", err, flag)
		}
		ln.Close()
	}
	return nil
}

func (m *stage) startControl(ctx context.Context) error {
	args := []string{"run", "--listen", m.control.at(m.config.XDSPort), "--status-listen", m.control.at(statusPort),
		"--trust-domain", trustDomain, "--ca-dir", m.file("ca"), "--tokens", m.file("tokens"), "--config-path", m.file("config", "mesh.yaml")}
	for _, path := range m.policies {
		args = append(args, "--config-path", path)
	}
	p, err := m.launch("control", "outrigger-control", args...)
	if err != nil {
		return err
	}
	return p.ready(ctx, "http://"+m.control.at(statusPort)+"/healthz/ready", m.policies[0])
}

func (m *stage) startServer(ctx context.Context) error {
	if m.config.Server != "" {
		return nil
	}
	address := m.server.at(int(m.serverPort))
	p, err := m.launch("mcp-server", "outrigger-sample", "server", "--listen", address)
	if err != nil {
		return err
	}
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *stage) startSidecar(ctx context.Context, w place) error {
	control := m.control.at(m.config.XDSPort)
	args := []string{"run",
		"--name", w.name, "--namespace", w.namespace, "--service-account", w.account, "--trust-domain", trustDomain, "--address", w.ip.String(),
		"--xds-address", control, "--xds-root", m.file("root-cert.pem"), "--xds-name", "istiod.istio-system.svc", "--token-file", m.token(w),
		"--hbone-listen", w.at(m.config.HBONEPort), "--plain-listen", w.at(plainPort), "--outbound-listen", w.at(outPort),
		"--admin-listen", w.at(adminPort), "--metrics-listen", w.at(metricsPort), "--ready-listen", w.at(readyPort),
		"--access-log", m.accessLog(w), "--audit-log", m.audit(w), "--label", "app=" + w.name,
	}
	for i, agent := range m.agents {
		if agent == w {
			args = append(args, "--forward", m.listen[i]+"="+net.JoinHostPort(service, strconv.Itoa(servicePort)))
		}
	}
	if w == m.server {
		args = append(args, "--mcp-port", strconv.Itoa(int(m.serverPort)))
		if m.app.IsValid() {
			args = append(args, "--app-address", m.app.String())
		}
	}
	p, err := m.launch("sidecar-"+w.name, "outrigger", args...)
	if err != nil {
		return err
	}
	return p.ready(ctx, "http://"+w.at(readyPort)+"/healthz/ready", "")
}

func (m *stage) accessLog(w place) string { return m.file("logs", "access-"+w.name+".log") }
func (m *stage) audit(w place) string     { return m.file("logs", "audit-"+w.name+".jsonl") }

// news are the logs that somebody must hear of who has a server or a policy of his own here.
func (m *stage) news(t *telling) []*follower {
	n := &news{telling: t, told: map[string]bool{}}
	all := []*follower{{path: m.processes[0].log, tell: n.control}}
	if m.config.Server != "" || m.config.Policy != "" {
		all = append(all, &follower{path: m.file("logs", "sidecar-"+m.server.name+".log"), tell: n.sidecar},
			&follower{path: m.audit(m.server), tell: n.audit})
	}
	return all
}

// wait returns when ctx ends, or with an error when a process does. Meanwhile it
// tells the news.
func (m *stage) wait(ctx context.Context, t *telling) error {
	ended := make(chan *process, len(m.processes))
	for _, p := range m.processes {
		go func() {
			<-p.done // every process ends at the latest when the mesh is stopped
			ended <- p
		}()
	}
	news := m.news(t)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-ended:
			if p != m.processes[0] {
				return fmt.Errorf("%s ended: %s", p.name, p.tail())
			}
			t.line("%s the control plane ended; the sidecars go on with what they know: %s", t.style(red, "✗"), p.tail())
		case <-tick.C:
			for _, n := range news {
				n.each()
			}
		}
	}
}

// stop ends the processes, the last one first.
func (m *stage) stop() {
	for i := len(m.processes) - 1; i >= 0; i-- {
		m.processes[i].stop()
	}
	if m.config.State != "" {
		os.Remove(m.file(endpointsFile)) // it tells of what is running
	}
}
