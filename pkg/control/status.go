package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Status is what /status tells.
type Status struct {
	Ready     bool           `json:"ready"`
	Resources map[string]int `json:"resources"` // served, by type
	Files     []FileStatus   `json:"files"`
	Problems  []Problem      `json:"problems"`
	Nodes     []NodeStatus   `json:"nodes"`
}

// A FileStatus is a file of configuration.
type FileStatus struct {
	File    string    `json:"file"`
	Objects int       `json:"objects"`       // of its last good content
	Good    time.Time `json:"good,omitzero"` // when that was read
	Current bool      `json:"current"`       // whether it is what the file says now
}

// Status may be called from any goroutine.
func (p *Plane) Status() Status {
	st := Status{Resources: p.cache.counts(), Nodes: p.nodes.list(), Files: []FileStatus{}}
	s := p.source
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Ready = s.synced
	st.Problems = append([]Problem{}, s.problems()...)
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		f := s.files[path]
		st.Files = append(st.Files, FileStatus{path, len(f.objects), f.good, f.err == nil && !f.good.IsZero()})
	}
	return st
}

func (c *cache) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for typeURL, t := range c.tables {
		counts[typeURL] = len(t.resources)
	}
	return counts
}

func (p *Plane) serveStatus(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		st := p.Status()
		if st.Ready {
			fmt.Fprintln(w, "ready")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, problem := range st.Problems {
			fmt.Fprintln(w, problem.String())
		}
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A reader that has gone away needs no error.
		_ = json.MarshalWrite(w, p.Status(), jsontext.WithIndent("  "))
	})
	server := &http.Server{Handler: ownHost(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if err := server.Shutdown(limited); err != nil {
			stopped <- server.Close()
			return
		}
		stopped <- nil
	})()
	err := server.Serve(p.status)
	if errors.Is(err, http.ErrServerClosed) {
		return <-stopped
	}
	return fmt.Errorf("serve status: %w", err)
}

// ownHost refuses requests for other names: a web page must not read the
// status through a name of its own that it lets point here.
func ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.Trim(r.Host, "[]")
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
			http.Error(w, "ask by address", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
