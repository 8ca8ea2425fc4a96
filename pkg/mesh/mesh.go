// Package mesh knows the nouns of the mesh: principals, workloads, services,
// endpoints, addresses and hops. It is data without I/O, and knows nothing of
// the protocols that carry it.
package mesh
