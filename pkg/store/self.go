package store

import (
	"fmt"
	"slices"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// findSelf finds the workload that is served: by name, else by address. In both
// cases namespace and service account must be ours, for a pod that had our
// address before us may still be in the mesh.
func (b *builder) findSelf() *mesh.Workload {
	for _, uid := range b.named {
		if w := b.WorkloadByUID(uid); w != nil {
			return w
		}
	}
	self := &b.config.Self
	for _, a := range self.Addresses {
		w := b.Workload(mesh.NetworkAddress{Network: self.Network, Address: a})
		if w != nil && b.config.sameAccount(w) {
			return w
		}
	}
	return nil
}

// rename keeps the list of workloads that have our name.
func (b *builder) rename(uid string, named bool) {
	i, listed := slices.BinarySearch(b.named, uid)
	switch {
	case named && !listed:
		b.named = slices.Insert(slices.Clone(b.named), i, uid)
	case !named && listed:
		b.named = slices.Delete(slices.Clone(b.named), i, i+1)
	}
}

// names tells whether w has the name, the cluster and the account of the
// workload that is served.
func (c *Config) names(w *mesh.Workload) bool {
	self := &c.Self
	return self.Name != "" && w.Name == self.Name && c.sameAccount(w) &&
		(self.ClusterID == "" || w.ClusterID == "" || w.ClusterID == self.ClusterID)
}

// missing is what Pending says of the workload that is served while the mesh has not
// told of it: what findSelf looks for, and what to compare.
func (c *Config) missing() string {
	self := &c.Self
	return fmt.Sprintf("%s (of namespace %q and service account %q the control plane has told of no workload named %q in cluster %q, nor of one at %v in network %q:"+
		" see whether the pod has these, and correct --namespace, --service-account, --name, --cluster-id, --address or --network)",
		PendingSelf, self.Namespace, self.Principal.ServiceAccount(), self.Name, self.ClusterID, self.Addresses, self.Network)
}

// sameAccount compares with our certificate's identity where that is one of
// Kubernetes, and with the pod's namespace in any case.
func (c *Config) sameAccount(w *mesh.Workload) bool {
	account := c.Self.Principal.ServiceAccount()
	return (c.Self.Namespace == "" || w.Namespace == c.Self.Namespace) &&
		(account == "" || w.ServiceAccount == account)
}
