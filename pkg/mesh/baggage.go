package mesh

import "strings"

// Baggage describes the workload in W3C baggage, in the keys and the order that
// ztunnel uses on an HBONE CONNECT; what is not known is left out. It is for
// telemetry only.
func (w *Workload) Baggage() string {
	if w == nil {
		return ""
	}
	kind := w.WorkloadType
	if kind == "" {
		kind = "deployment"
	}
	var b strings.Builder
	for _, kv := range [...]struct{ key, value string }{
		{"k8s.cluster.name", w.ClusterID},
		{"k8s.namespace.name", w.Namespace},
		{"k8s." + kind + ".name", w.WorkloadName},
		{"service.name", w.CanonicalName},
		{"service.version", w.CanonicalRevision},
		{"cloud.region", w.Locality.Region},
		{"cloud.availability_zone", w.Locality.Zone},
	} {
		if kv.value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(kv.key + "=" + kv.value)
	}
	return b.String()
}
