// Package scale measures what a big mesh costs a sidecar that keeps all of it:
// loading, lookups, and how a stream of updates reaches the data path.
package scale
