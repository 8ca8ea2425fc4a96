//go:build istiod

package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/istiod"
)

// objects are those of Kubernetes that cases have applied, by what names them.
// They can say themselves in the words of outrigger-control.
type objects map[string]istiod.Object

func (o objects) apply(text string) error {
	list, err := istiod.Parse(text)
	for _, d := range list {
		o[d.String()] = d
	}
	return err
}

func (o objects) remove(text string) error {
	list, err := istiod.Parse(text)
	for _, d := range list {
		if _, ok := o[d.String()]; !ok {
			return fmt.Errorf("there is no %v", d)
		}
		delete(o, d.String())
	}
	return err
}

// text is all objects as outrigger-control reads them.
func (o objects) text() (string, error) {
	var out strings.Builder
	for _, k := range slices.Sorted(maps.Keys(o)) {
		d := o[k]
		switch d["kind"] {
		case "Pod":
			d = o.workload(d)
		case "Service":
			d = service(d)
		case "AuthorizationPolicy", "PeerAuthentication":
		default:
			continue
		}
		data, err := yaml.Dump(map[string]any(d))
		if err != nil {
			return "", err
		}
		out.WriteString("---\n")
		out.Write(data)
	}
	return out.String(), nil
}

func own(kind string, from istiod.Object, spec map[string]any) istiod.Object {
	metadata := map[string]any{"name": from.At("metadata", "name"), "namespace": from.At("metadata", "namespace")}
	if labels := from.At("metadata", "labels"); labels != nil {
		metadata["labels"] = labels
	}
	return istiod.Object{"apiVersion": "outrigger.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
}

func hostname(service istiod.Object) string {
	return fmt.Sprintf("%v.%v.svc.cluster.local", service.At("metadata", "name"), service.At("metadata", "namespace"))
}

func ports(service istiod.Object) []any {
	var list []any
	for _, p := range service.At("spec", "ports").([]any) {
		port := p.(map[string]any)
		list = append(list, map[string]any{"servicePort": port["port"], "targetPort": port["targetPort"]})
	}
	return list
}

func service(d istiod.Object) istiod.Object {
	return own("Service", d, map[string]any{"hostname": hostname(d), "addresses": []any{d.At("spec", "clusterIP")}, "ports": ports(d)})
}

func (o objects) workload(d istiod.Object) istiod.Object {
	spec := map[string]any{"addresses": []any{d.At("status", "podIP")}, "serviceAccount": d.At("spec", "serviceAccountName")}
	if d.At("metadata", "labels", "networking.istio.io/tunnel") == "http" {
		spec["tunnelProtocol"], spec["nativeTunnel"] = "HBONE", true
	}
	services := map[string]any{}
	for _, s := range o {
		if s["kind"] == "Service" && s.At("metadata", "namespace") == d.At("metadata", "namespace") && selects(s, d) {
			services[fmt.Sprintf("%v/%s", s.At("metadata", "namespace"), hostname(s))] = map[string]any{"ports": ports(s)}
		}
	}
	if len(services) > 0 {
		spec["services"] = services
	}
	return own("Workload", d, spec)
}

func selects(service, pod istiod.Object) bool {
	selector, _ := service.At("spec", "selector").(map[string]any)
	for k, v := range selector {
		if pod.At("metadata", "labels", k) != v {
			return false
		}
	}
	return len(selector) > 0
}
