package istiod

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Namespace is a namespace as a YAML document.
func Namespace(name string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %q}\n", name)
}

// A Pod is a workload that runs.
type Pod struct {
	Namespace, Name string
	ServiceAccount  string // "" means "default"
	Address         string // an IP address; loopback is fine
	Node            string // "" means none
	HBONE           bool   // whether it takes tunnels on port 15008
	Labels          map[string]string
}

// YAML is the pod and its service account as YAML documents.
func (p Pod) YAML() string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: %q, name: %q}\n", p.Namespace, p.account()) + p.Alone()
}

func (p Pod) account() string {
	if p.ServiceAccount == "" {
		return "default"
	}
	return p.ServiceAccount
}

// Alone is the pod without its service account, of which there may be one already.
func (p Pod) Alone() string {
	labels := maps.Clone(p.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if p.HBONE {
		labels["networking.istio.io/tunnel"] = "http"
	}
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%q: %q", key, labels[key]))
	}
	spec := fmt.Sprintf("serviceAccountName: %q, containers: [{name: app, image: app}]", p.account())
	if p.Node != "" {
		spec += fmt.Sprintf(", nodeName: %q", p.Node)
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {namespace: %q, name: %q, labels: {%s}}
spec: {%s}
status:
  phase: Running
  podIP: %[5]q
  podIPs: [{ip: %[5]q}]
  conditions: [{type: Ready, status: "True"}]
`, p.Namespace, p.Name, strings.Join(pairs, ", "), spec, p.Address)
}

// Reference is the pod as Delete takes it.
func (p Pod) Reference() string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: %q, name: %q}\n", p.Namespace, p.Name)
}
