// Package peers puts other programs at the other end of our tunnels: a real Envoy
// and Node's HTTP/2, each as client and as server. Its tests need the build tag
// "peers", and make peers installs what they run.
package peers
