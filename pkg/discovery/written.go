package discovery

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/pkg/manifest"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
	workloadpb "github.com/outrigger-mesh/outrigger/proto/istio/workload"
)

// checkWritten finds in what people write what a sidecar would put up with, if
// a control plane sent it, and what can only be a mistake.
func checkWritten(d *manifest.Document, body proto.Message) error {
	switch b := body.(type) {
	case *workloadpb.Workload:
		return checkWorkload(d, b)
	case *workloadpb.Service:
		if !IsHostname(b.Hostname) {
			return d.Fault(fmt.Sprintf("hostname %q is not a hostname", b.Hostname), "write lower-case letters, digits, '-' and '.'", "spec", "hostname")
		}
	}
	return nil
}

func checkWorkload(d *manifest.Document, w *workloadpb.Workload) error {
	if len(w.Addresses) == 0 && w.Hostname == "" {
		return d.Fault("the workload has no address", `add addresses: ["10.1.2.3"], or a hostname`, "spec", "addresses")
	}
	if w.ServiceAccount != "" && !policy.IsDNSSubdomain(w.ServiceAccount) {
		return d.Fault(fmt.Sprintf("serviceAccount %q is not a name", w.ServiceAccount), "write lower-case letters, digits, '-' and '.'", "spec", "serviceAccount")
	}
	for name := range w.Services {
		if _, err := NamespacedHostname(name); err != nil {
			return d.Fault(err.Error(), "name services by namespace/hostname", "spec", "services", name)
		}
	}
	for i, name := range w.AuthorizationPolicies {
		if ns, rest, ok := strings.Cut(name, "/"); !ok || !policy.IsDNSLabel(ns) || rest == "" {
			return d.Fault(fmt.Sprintf("%q is not namespace/name of an authorization", name), "", "spec", "authorizationPolicies", strconv.Itoa(i))
		}
	}
	return nil
}
