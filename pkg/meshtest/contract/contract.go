// Package contract holds what a sidecar relies on in a control plane: one table
// of cases, each of which runs against outrigger-control, against Istio's
// FakeDiscoveryServer and against a real istiod, with the client code that the
// sidecar runs. What a control plane cannot be asked is said in the table, with
// the reason. The tests have the build tag istiod: `make contract`.
package contract
