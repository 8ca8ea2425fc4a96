package sidecar

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
	"github.com/outrigger-mesh/outrigger/pkg/store"
)

// What is said of a closed port, in the log and on the status page.
const (
	closedProblem = "it speaks MCP (--mcp-port) and no agent policy governs it: every call is denied"
	closedRemedy  = "list it under spec.ports of a policy of the workload's namespace that selects the workload"
)

// closedPorts are those that the operator declares as MCP and no agent policy governs.
func (s *Sidecar) closedPorts(snap *store.Snapshot) (closed []uint16) {
	policies := snap.Policies()
	if policies == nil || len(s.self.Addresses) == 0 {
		return nil // everything is
	}
	ports, _ := s.config.mcpPorts() // they were validated
	for _, number := range ports {
		to := policy.Destination{Workload: snap.Self(), Address: netip.AddrPortFrom(s.self.Addresses[0], number)}
		if policies.Port(policy.Inbound, to).Protocol == policy.ProtocolUndeclared {
			closed = append(closed, number)
		}
	}
	return closed
}

// tellClosedPorts logs when a declared port closes for want of a policy, and when
// one governs it again, until ctx ends. What is still to be delivered may govern
// it: until then readiness says what is missing.
func (s *Sidecar) tellClosedPorts(ctx context.Context) {
	changed := make(chan struct{}, 1)
	defer s.store.Watch(func(*store.Snapshot) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	var told []uint16
	for {
		if snap := s.store.Snapshot(); len(snap.Pending()) == 0 {
			told = s.tellChanges(told, snap)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// tellChanges compares with what was closed before, and returns what is now.
func (s *Sidecar) tellChanges(before []uint16, snap *store.Snapshot) (now []uint16) {
	now = s.closedPorts(snap)
	for _, port := range now {
		if !slices.Contains(before, port) {
			s.logger.Warn("port is closed", "port", port, "problem", closedProblem, "remedy", closedRemedy,
				"namespace", s.self.Namespace, "labels", s.self.Labels, "policies", slices.Sorted(maps.Keys(maps.Collect(snap.AgentPolicies()))))
		}
	}
	for _, port := range before {
		if !slices.Contains(now, port) {
			s.logger.Info("port is governed by an agent policy again", "port", port)
		}
	}
	return now
}
