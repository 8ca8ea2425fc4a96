package admin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
)

func (a *Admin) readiness() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if pending := a.config.Ready(); len(pending) > 0 {
			w.WriteHeader(http.StatusInternalServerError) // as ztunnel; a probe wants anything but 2xx and 3xx
			fmt.Fprintf(w, "not ready, pending: %s\n", strings.Join(pending, ", "))
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return m
}

func (a *Admin) metrics() http.Handler {
	m := http.NewServeMux()
	if a.config.Metrics != nil {
		m.Handle("GET /metrics", a.config.Metrics)
		m.Handle("GET /stats/prometheus", a.config.Metrics)
	}
	return m
}

func (a *Admin) private() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", a.page)
	if a.config.Dump != nil {
		m.HandleFunc("GET /config_dump", a.dump)
	}
	if a.config.Level != nil {
		m.HandleFunc("GET /logging", a.level)
		m.HandleFunc("POST /logging", a.setLevel)
	}
	if a.config.Quit != nil {
		m.HandleFunc("POST /quitquitquit", a.quit)
	}
	m.HandleFunc("GET /debug/pprof/", pprof.Index) // and every named profile below it
	m.HandleFunc("GET /debug/pprof/profile", bounded(pprof.Profile))
	m.HandleFunc("GET /debug/pprof/trace", bounded(pprof.Trace))
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	// No cmdline: flags may hold tokens.
	m.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	return loopbackOnly(http.NewCrossOriginProtection().Handler(m))
}

// loopbackOnly refuses requests that name another host than this one: a page in
// a browser on this host may resolve its own name to 127.0.0.1 and then read
// what we answer (DNS rebinding), but it cannot choose the Host header.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "the Host header must name this host: localhost or a loopback address", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// bounded refuses profiles that take longer than the server lets a response take.
func bounded(next http.HandlerFunc) http.HandlerFunc {
	limit := int(maxProfile.Seconds())
	return func(w http.ResponseWriter, r *http.Request) {
		if s := r.URL.Query().Get("seconds"); s != "" {
			if n, err := strconv.Atoi(s); err != nil || n < 1 || n > limit {
				http.Error(w, fmt.Sprintf("seconds must be a number from 1 to %d", limit), http.StatusBadRequest)
				return
			}
		}
		next(w, r)
	}
}

func (a *Admin) dump(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(a.config.Dump(), "", "  ")
	if err != nil {
		a.config.Logger.Error("encode config dump", "error", err)
		http.Error(w, "the configuration could not be encoded; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the client may have gone
}

func (a *Admin) level(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "%s\n", strings.ToLower(a.config.Level.Level().String()))
}

// setLevel takes ?level=debug, info, warn or error, or ?reset for the level at the start.
func (a *Admin) setLevel(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	level := a.reset
	if !q.Has("reset") && level.UnmarshalText([]byte(q.Get("level"))) != nil {
		http.Error(w, "say ?level=debug, info, warn or error, or ?reset", http.StatusBadRequest)
		return
	}
	a.config.Level.Set(level)
	a.level(w, r)
}

func (a *Admin) quit(w http.ResponseWriter, r *http.Request) {
	a.config.Logger.Info("asked to end", "by", r.RemoteAddr)
	fmt.Fprintln(w, "shutdown now")
	a.config.Quit()
}
