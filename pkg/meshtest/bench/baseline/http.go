package baseline

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// connectionsKept is how many unused connections to one host are kept: the default
// of two would dial for most requests.
const connectionsKept = 1 << 10

// relayHTTP passes on requests to another address. It takes over ln.
func relayHTTP(ctx context.Context, ln net.Listener, to string) error {
	transport := &http.Transport{MaxIdleConnsPerHost: connectionsKept}
	defer transport.CloseIdleConnections()
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: to}) },
		Transport: transport,
	}}
	defer stopServer(ctx, server)()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
