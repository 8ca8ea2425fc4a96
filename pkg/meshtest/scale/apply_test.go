package scale

import (
	"fmt"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/xds"
)

// BenchmarkApply is one update among so many of one response.
func BenchmarkApply(b *testing.B) {
	d, _ := load(b, everything(b), Workloads)
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			var responses [2][]xds.Resource
			for i := range batch {
				responses[0] = append(responses[0], workload(b, i*7919%Workloads, "v2"))
				responses[1] = append(responses[1], workload(b, i*7919%Workloads, "v1"))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				d.Apply(discovery.AddressType, responses[i/batch%2], nil, false)
			}
		})
	}
}
