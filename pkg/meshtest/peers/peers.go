// Package peers puts other programs at the other end of our tunnels: a real Envoy
// and Node's HTTP/2, each as client and as server, and nghttp2's proxy as client.
// Its tests need the build tag "peers", and make peers installs what they run, but
// for node and nghttpx.
package peers
