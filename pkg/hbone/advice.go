package hbone

import "github.com/outrigger-mesh/outrigger/pkg/gate"

// raise says which setting of a sidecar lets through what a bound has kept out.
func raise(setting string) string { return "if this is honest traffic, raise " + setting }

// raiseOfGate is raise for a bound of the gate.
func raiseOfGate(b gate.Bound) string {
	switch b {
	case gate.AtOnce:
		return raise("--tunnel-handshakes-per-source")
	case gate.Strangers:
		return raise("--tunnel-strangers-per-second")
	}
	return raise("--tunnel-conns-per-second")
}
