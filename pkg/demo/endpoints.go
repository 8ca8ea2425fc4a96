package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// Endpoints is what endpoints.json in the state directory says while the mesh
// is up: everything a person or a program needs to join in. Addresses are
// host:port, files are absolute paths. Fields may be added; those that are here
// keep their names and meaning as long as Version is 1.
type Endpoints struct {
	Version     int               `json:"version"`
	TrustDomain string            `json:"trustDomain"`
	Agents      []AgentEndpoint   `json:"agents"`
	Server      ServerEndpoint    `json:"server"`
	Control     ControlEndpoint   `json:"control"`
	Sidecars    []SidecarEndpoint `json:"sidecars"`
	Files       FileEndpoints     `json:"files"`
	// Processes are the process IDs by name: control, mcp-server and
	// sidecar-<name>. A server that is not the demo's own is not among them.
	Processes map[string]int `json:"processes"`
}

// AgentEndpoint is what one agent calls.
type AgentEndpoint struct {
	Name     string `json:"name"`
	Identity string `json:"identity"` // the SPIFFE ID its sidecar proves
	URL      string `json:"url"`      // give it to an MCP client to be this agent
}

// ServerEndpoint is the MCP server and its name in the mesh.
type ServerEndpoint struct {
	Identity string `json:"identity"`
	Direct   string `json:"direct"`   // its URL without any sidecar
	Service  string `json:"service"`  // hostname:port in the mesh
	Workload string `json:"workload"` // IP:port in the mesh: the authority of a CONNECT to it
}

// ControlEndpoint is the control plane.
type ControlEndpoint struct {
	XDS    string `json:"xds"`  // delta ADS over TLS
	CA     string `json:"ca"`   // Istio's certificate service over TLS
	Name   string `json:"name"` // in its server certificate
	Status string `json:"status"`
}

// SidecarEndpoint is one sidecar.
type SidecarEndpoint struct {
	Name      string `json:"name"`
	Identity  string `json:"identity"`
	Inbound   string `json:"inbound"`  // HBONE
	Outbound  string `json:"outbound"` // redirected connections of the app
	Plain     string `json:"plain"`    // redirected connections from outside the mesh
	Admin     string `json:"admin"`
	Metrics   string `json:"metrics"`
	Readiness string `json:"readiness"`
	Token     string `json:"token"` // file
	Log       string `json:"log"`
	AccessLog string `json:"accessLog"`
	Audit     string `json:"audit"`
}

// FileEndpoints are the files of the mesh as a whole.
type FileEndpoints struct {
	State    string   `json:"state"`
	Root     string   `json:"root"`     // certificate of the mesh's authority
	Mesh     string   `json:"mesh"`     // workloads and services; watched
	Policies []string `json:"policies"` // agent policies; watched
}

func (m *stage) endpoints() *Endpoints {
	e := &Endpoints{
		Version: 1, TrustDomain: trustDomain,
		Server: ServerEndpoint{
			Identity: spiffeID(m.server), Direct: m.direct(),
			Service: fmt.Sprintf("%s:%d", service, servicePort), Workload: m.server.at(int(m.serverPort)),
		},
		Control: ControlEndpoint{
			XDS: m.control.at(m.config.XDSPort), CA: m.control.at(m.config.XDSPort),
			Name: "istiod.istio-system.svc", Status: m.control.at(statusPort),
		},
		Files: FileEndpoints{State: m.dir, Root: m.file("root-cert.pem"), Mesh: m.file("config", "mesh.yaml"), Policies: m.policies},
	}
	e.Processes = make(map[string]int, len(m.processes))
	for _, p := range m.processes {
		e.Processes[p.name] = p.cmd.Process.Pid
	}
	for i, a := range m.agents {
		e.Agents = append(e.Agents, AgentEndpoint{a.name, spiffeID(a), m.agentURL(i)})
	}
	for _, w := range m.workloads() {
		e.Sidecars = append(e.Sidecars, SidecarEndpoint{
			Name: w.name, Identity: spiffeID(w),
			Inbound: w.at(m.config.HBONEPort), Outbound: w.at(outPort), Plain: w.at(plainPort),
			Admin: w.at(adminPort), Metrics: w.at(metricsPort), Readiness: w.at(readyPort),
			Token: m.token(w), Log: m.file("logs", "sidecar-"+w.name+".log"), AccessLog: m.accessLog(w), Audit: m.audit(w),
		})
	}
	return e
}

func spiffeID(w place) string { return mesh.NewPrincipal(trustDomain, w.namespace, w.account).String() }

func (m *layout) direct() string {
	if m.config.Server != "" {
		return m.config.Server
	}
	return "http://" + m.server.at(int(m.serverPort)) + m.path
}

// ReadEndpoints reads endpoints.json from a state directory.
func ReadEndpoints(state string) (*Endpoints, error) {
	data, err := os.ReadFile(filepath.Join(state, endpointsFile))
	if err != nil {
		return nil, err
	}
	var e Endpoints
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("read %s: %w", endpointsFile, err)
	}
	return &e, nil
}

// inUse tells of a demo that runs in the state directory.
func inUse(state string) error {
	e, err := ReadEndpoints(state)
	if err != nil {
		return nil // none, or one that nobody could use
	}
	for name, pid := range e.Processes {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("state directory %s is in use by another demo (%s has pid %d): choose another with --state, or stop it", state, name, pid)
		}
	}
	return nil
}

const endpointsFile = "endpoints.json"

func (m *stage) writeEndpoints() error {
	data, err := json.Marshal(m.endpoints(), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write endpoints.json: %w", err)
	}
	return write(m.file(endpointsFile), string(data)+"\n")
}
