// Command behind runs an MCP client of the conformance suite behind the sidecars:
//
//	behind STATE CLIENT... URL
//
// The suite's scenarios bring their own servers, at ports of localhost that are not
// known before, and a client is to be given just that URL. So the client runs as a
// group of its own whose connections to that port are redirected to the agent's
// sidecar, as a pod's are, and the mesh in STATE is told of the port. It needs root,
// and changes the network namespace it runs in: run it in one that is thrown away.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/demo"
)

// group is that of clients whose connections are redirected.
const group = 4242

// patience is how long a sidecar may take to learn of a port, on a busy machine.
const patience = 30 * time.Second

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: behind STATE CLIENT... URL")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:])
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(failed.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "behind:", err)
		os.Exit(1)
	}
}

func run(state string, client []string) error {
	target, err := url.Parse(client[len(client)-1])
	if err != nil {
		return err
	}
	port := cmp.Or(target.Port(), "80")
	data, err := os.ReadFile(filepath.Join(state, "endpoints.json"))
	if err != nil {
		return err
	}
	var mesh demo.Endpoints
	if err := json.Unmarshal(data, &mesh); err != nil {
		return err
	}
	if err := tell(&mesh, port); err != nil {
		return fmt.Errorf("tell the mesh of port %s: %w", port, err)
	}
	outbound := sidecar(&mesh, "planner").Outbound
	if err := redirect("-A", outbound, port); err != nil {
		return err
	}
	cmd := exec.Command(client[0], client[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Gid: group, NoSetGroups: true}}
	// Another scenario's server of tokens, which the client is to reach itself, may get the port next.
	return errors.Join(cmd.Run(), redirect("-D", outbound, port))
}

func sidecar(mesh *demo.Endpoints, name string) demo.SidecarEndpoint {
	return mesh.Sidecars[slices.IndexFunc(mesh.Sidecars, func(s demo.SidecarEndpoint) bool { return s.Name == name })]
}

// redirect begins (-A) to lead the group's connections to a port to the sidecar, or ends it (-D).
func redirect(action, to, port string) error {
	out, err := exec.Command("iptables", "-w", "-t", "nat", action, "OUTPUT", "-p", "tcp", "-d", "127.0.0.0/8", "--dport", port,
		"-m", "owner", "--gid-owner", fmt.Sprint(group), "-j", "DNAT", "--to-destination", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("redirect port %s: %w: %s", port, err, out)
	}
	return nil
}

// tell adds the port to the server's, and waits until both sidecars know of it.
// Several of us may do so at a time.
func tell(mesh *demo.Endpoints, port string) error {
	lock, err := os.OpenFile(filepath.Join(mesh.Files.State, "ports"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	known, err := io.ReadAll(lock)
	if err != nil {
		return err
	}
	ports := append(strings.Fields(string(known)), port)
	if _, err := lock.WriteAt([]byte(strings.Join(ports, "\n")+"\n"), 0); err != nil {
		return err
	}
	if err := rewrite(mesh.Files.Mesh, servicePorts, ports, "{servicePort: %[1]s, targetPort: %[1]s}"); err != nil {
		return err
	}
	if err := rewrite(mesh.Files.Policies[0], policyPorts, ports, "{number: %s, protocol: MCP}"); err != nil {
		return err
	}
	if err := know(sidecar(mesh, "planner").Admin, port, (*dump).serves); err != nil {
		return err
	}
	return know(sidecar(mesh, "github").Admin, port, func(d *dump, port string) bool { return d.serves(port) && d.governs(port) })
}

var (
	servicePorts = regexp.MustCompile(`ports: \[\{servicePort: .*\]`)
	policyPorts  = regexp.MustCompile(`ports: \[\{number: .*\]`)
)

// rewrite replaces a file's list of ports. The service gets the address that the
// clients call.
func rewrite(file string, list *regexp.Regexp, ports []string, form string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprintf(form, p))
	}
	text = list.ReplaceAll(text, []byte("ports: ["+strings.Join(all, ", ")+"]"))
	if !strings.Contains(string(text), "addresses: [127.0.0.1]") {
		text = regexp.MustCompile(`(?m)^  hostname: `).ReplaceAll(text, []byte("  addresses: [127.0.0.1]\n  hostname: "))
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// A dump is what a sidecar holds, as far as it matters here.
type dump struct {
	Services []struct {
		Ports map[string]uint16 `json:"ports"`
	} `json:"services"`
	AgentPolicies []struct {
		Spec struct {
			Ports []struct {
				Number uint16 `json:"number"`
			} `json:"ports"`
		} `json:"spec"`
	} `json:"agentPolicies"`
}

func (d *dump) serves(port string) bool {
	for _, s := range d.Services {
		if _, ok := s.Ports[port]; ok {
			return true
		}
	}
	return false
}

func (d *dump) governs(port string) bool {
	for _, p := range d.AgentPolicies {
		for _, declared := range p.Spec.Ports {
			if fmt.Sprint(declared.Number) == port {
				return true
			}
		}
	}
	return false
}

// know waits until a sidecar holds what there is to know of a port. A service's and a
// policy's do not come together.
func know(admin, port string, enough func(*dump, string) bool) error {
	client := &http.Client{Timeout: 5 * time.Second}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		response, err := client.Get("http://" + admin + "/config_dump")
		if err != nil {
			return err
		}
		var d dump
		err = json.UnmarshalRead(response.Body, &d)
		response.Body.Close()
		if err != nil {
			return err
		}
		if enough(&d, port) {
			return nil
		}
	}
	return fmt.Errorf("the sidecar at %s has not learned of it within %v", admin, patience)
}
