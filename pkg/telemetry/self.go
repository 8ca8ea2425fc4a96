package telemetry

import (
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// selfWorkload is what we know of our own end before the mesh tells us; nil if that is nothing.
func selfWorkload(s *mesh.Self) *mesh.Workload {
	if s.Principal.IsZero() && s.Name == "" {
		return nil
	}
	return &mesh.Workload{
		Name:              s.Name,
		Namespace:         s.Namespace,
		ServiceAccount:    s.Principal.ServiceAccount(),
		TrustDomain:       s.Principal.TrustDomain(),
		ClusterID:         s.ClusterID,
		CanonicalName:     canonicalName(s),
		CanonicalRevision: firstOf(s.Labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"),
	}
}

// canonicalName is found as Istio finds it.
func canonicalName(s *mesh.Self) string {
	if name := firstOf(s.Labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app"); name != "" {
		return name
	}
	return s.Name
}

func firstOf(labels map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return ""
}

func directionName(d policy.Direction) string {
	switch d {
	case policy.Inbound:
		return "inbound"
	case policy.Outbound:
		return "outbound"
	}
	return ""
}

// reporterName is who speaks in a metric: the destination's proxy or the source's.
func reporterName(d policy.Direction) string {
	if d == policy.Inbound {
		return "destination"
	}
	return "source"
}

func kindName(k policy.Kind) string {
	switch k {
	case policy.KindTool:
		return "tool"
	case policy.KindResource:
		return "resource"
	case policy.KindTemplate:
		return "template"
	case policy.KindPrompt:
		return "prompt"
	case policy.KindTask:
		return "task"
	case policy.KindUnknown:
		return "unknown"
	}
	return ""
}

func actionName(a policy.Action) string {
	switch a {
	case policy.ActionAllow:
		return "allow"
	case policy.ActionDeny:
		return "deny"
	case policy.ActionRequire:
		return "require"
	}
	return "unknown"
}

func verdict(d *policy.Decision) string {
	if d.Allowed {
		return "allow"
	}
	return "deny"
}
