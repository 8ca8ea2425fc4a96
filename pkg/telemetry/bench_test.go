package telemetry

import (
	"io"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func BenchmarkConnection(b *testing.B) {
	r, err := New(Config{AccessLog: io.Discard, Audit: io.Discard, AuditBlock: true, Self: githubSelf})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w := bench{Recorder: r}
	b.ReportAllocs()
	for b.Loop() {
		c := w.inbound()
		c.Open()
		c.BytesSent, c.BytesReceived = 518, 67
		c.Close(nil)
	}
}

func BenchmarkCall(b *testing.B) {
	for _, logs := range []bool{true, false} {
		name := map[bool]string{true: "logs", false: "metrics only"}[logs]
		b.Run(name, func(b *testing.B) {
			config := Config{Self: githubSelf}
			if logs {
				config.AccessLog, config.Audit, config.AuditBlock = io.Discard, io.Discard, true
			}
			r, err := New(config)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			c := (&bench{Recorder: r}).inbound()
			c.Open()
			b.ReportAllocs()
			for b.Loop() {
				k := call(c, policy.Decision{Allowed: true, Policy: "tools/github", Rule: "readers", Version: "9", Reason: "rule readers allows it"})
				k.ID = "17"
				k.Finish(nil)
			}
		})
	}
}

// Sent runs for every block of bytes.
func BenchmarkSent(b *testing.B) {
	r, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	c := (&bench{Recorder: r}).inbound()
	c.Open()
	b.ReportAllocs()
	for b.Loop() {
		c.Sent(16384)
	}
}
