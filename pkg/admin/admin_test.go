package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask sends one request to h, to http://localhost unless target says otherwise.
func ask(t *testing.T, h http.Handler, method, target string, header ...string) (int, string) {
	t.Helper()
	if strings.HasPrefix(target, "/") {
		target = "http://localhost:15000" + target
	}
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestReadinessSaysWhatIsPending(t *testing.T) {
	var pending []string
	h := New(Config{Ready: func() []string { return pending }}).readiness()
	for _, tt := range []struct {
		pending []string
		code    int
		body    string
	}{
		{nil, 200, "ready\n"},
		{[]string{"certificate", "workloads"}, 500, "not ready, pending: certificate, workloads\n"},
	} {
		pending = tt.pending
		if code, body := ask(t, h, "GET", "http://10.1.2.3:15021/healthz/ready"); code != tt.code || body != tt.body {
			t.Errorf("%v: %d %q, want %d %q", tt.pending, code, body, tt.code, tt.body)
		}
	}
}

func TestPublicServersTellNothingPrivate(t *testing.T) {
	a := New(Config{Metrics: http.NotFoundHandler(), Dump: func() any { return 1 }, Quit: func() { t.Error("quit") }, Level: new(slog.LevelVar)})
	for _, h := range []http.Handler{a.readiness(), a.metrics()} {
		for _, path := range []string{"/", "/config_dump", "/logging", "/debug/pprof/", "/quitquitquit"} {
			if code, _ := ask(t, h, "GET", path); code != 404 {
				t.Errorf("GET %s: %d", path, code)
			}
			if code, _ := ask(t, h, "POST", path); code != 404 {
				t.Errorf("POST %s: %d", path, code)
			}
		}
	}
}

func TestMetricsHaveBothOfIstiosPaths(t *testing.T) {
	h := New(Config{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "m") })}).metrics()
	for _, path := range []string{"/metrics", "/stats/prometheus"} {
		if code, body := ask(t, h, "GET", path); code != 200 || body != "m" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestPrivateServerAnswersOnlyToLoopbackNames(t *testing.T) {
	h := New(Config{}).private()
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:15000": 200, "127.0.0.1": 200, "127.0.15.21:15000": 200, "[::1]:15000": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:15000": 403, "localhost.evil.example": 403, "10.0.0.1:15000": 403, "127.0.0.1.nip.io": 403,
		"": 403, "localhost:x": 403, "localhost:1:2": 403, "[fe80::1%lo]": 403, "0.0.0.0": 403,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestActionsNeedAPostFromTheSameOrigin(t *testing.T) {
	quits := 0
	h := New(Config{Quit: func() { quits++ }}).private()
	for _, tt := range []struct {
		method string
		header []string
		code   int
		quits  int
	}{
		{"GET", nil, 405, 0},
		{"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403, 0},
		{"POST", []string{"Origin", "https://evil.example"}, 403, 0},
		{"POST", nil, 200, 1},
	} {
		quits = 0
		if code, _ := ask(t, h, tt.method, "/quitquitquit", tt.header...); code != tt.code || quits != tt.quits {
			t.Errorf("%s %v: %d and %d quits, want %d and %d", tt.method, tt.header, code, quits, tt.code, tt.quits)
		}
	}
}

func TestLogLevelCanBeChangedAndReset(t *testing.T) {
	level := new(slog.LevelVar)
	h := New(Config{Level: level}).private()
	for _, tt := range []struct {
		method, target string
		code           int
		body           string
	}{
		{"GET", "/logging", 200, "info\n"},
		{"POST", "/logging?level=debug", 200, "debug\n"},
		{"POST", "/logging?level=WARN", 200, "warn\n"},
		{"POST", "/logging?level=loud", 400, "say ?level=debug, info, warn or error, or ?reset\n"},
		{"POST", "/logging", 400, "say ?level=debug, info, warn or error, or ?reset\n"},
		{"GET", "/logging", 200, "warn\n"},
		{"POST", "/logging?reset", 200, "info\n"},
	} {
		if code, body := ask(t, h, tt.method, tt.target); code != tt.code || body != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.target, code, body, tt.code, tt.body)
		}
	}
}

func TestConfigDumpIsPrettyJSON(t *testing.T) {
	h := New(Config{Dump: func() any { return Dump{Workloads: []Workload{}} }}).private()
	code, body := ask(t, h, "GET", "/config_dump")
	var dump map[string]any
	if err := json.Unmarshal([]byte(body), &dump); code != 200 || err != nil || !strings.HasPrefix(body, "{\n  \"workloads\": []") {
		t.Errorf("%d %v %s", code, err, body)
	}
	for _, member := range []string{"workloads", "services", "policies", "agentPolicies", "staticConfig", "version", "config", "certificates"} {
		if _, ok := dump[member]; !ok {
			t.Errorf("no %s", member)
		}
	}
	h = New(Config{Dump: func() any { return func() {} }}).private()
	if code, body := ask(t, h, "GET", "/config_dump"); code != 500 || strings.Contains(body, "func") {
		t.Errorf("%d %s", code, body)
	}
}

func TestStatusPageEscapesWhatItShows(t *testing.T) {
	h := New(Config{Name: "side<car>", Version: "v1", Ready: func() []string { return []string{"certificate"} }, Facts: func() []Fact { return []Fact{{"identity", "<script>"}} }}).private()
	code, body := ask(t, h, "GET", "/")
	for _, want := range []string{"side&lt;car&gt; v1", "no, pending: certificate", "&lt;script&gt;"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d: no %q in %s", code, want, body)
		}
	}
	for _, unwanted := range []string{"config_dump", "quitquitquit"} { // not configured
		if strings.Contains(body, unwanted) {
			t.Errorf("%q in %s", unwanted, body)
		}
	}
}

func TestProfilesAreBoundedAndHideFlags(t *testing.T) {
	h := New(Config{}).private()
	for target, want := range map[string]int{
		"/debug/pprof/profile?seconds=301": 400, "/debug/pprof/profile?seconds=0": 400, "/debug/pprof/trace?seconds=x": 400,
		"/debug/pprof/cmdline": 404, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/heap": 200,
	} {
		if code, _ := ask(t, h, "GET", target); code != want {
			t.Errorf("%s: %d, want %d", target, code, want)
		}
	}
}

func TestServersEndWithTheirContext(t *testing.T) {
	a := New(Config{})
	for name, serve := range map[string]func(context.Context, net.Listener) error{"ready": a.ServeReadiness, "metrics": a.ServeMetrics, "private": a.ServePrivate} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serve(ctx, ln) }()
		client := &http.Client{Transport: &http.Transport{}}
		res, err := client.Get("http://" + ln.Addr().String() + "/healthz/ready")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if name == "ready" && res.StatusCode != 200 {
			t.Errorf("%s: %s", name, res.Status)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		client.CloseIdleConnections()
	}
}

func TestPrivateServerRefusesAnAddressOthersCanReach(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Config{}).ServePrivate(t.Context(), ln); !errors.Is(err, ErrNotLoopback) {
		t.Errorf("%v, want ErrNotLoopback", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := New(Config{}).ServePrivate(ctx, unix); err != nil {
		t.Error(err)
	}
}

func TestBrokenListenerIsReported(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := New(Config{}).ServeReadiness(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want net.ErrClosed", err)
	}
}

// FuzzPrivate sends arbitrary requests: none may crash the server, change
// anything unless it is a POST, or be answered if it names another host.
func FuzzPrivate(f *testing.F) {
	f.Add("GET", "/config_dump?x=1", "localhost")
	f.Add("POST", "/logging?level=%00", "127.0.0.1:1")
	f.Add("PUT", "//quitquitquit", "[::1")
	f.Fuzz(func(t *testing.T, method, target, host string) {
		if strings.Contains(target, "profile") || strings.Contains(target, "trace") || strings.Contains(target, "gc=") || strings.Contains(target, "seconds") {
			return // slow by design
		}
		level := new(slog.LevelVar)
		quit := false
		var log bytes.Buffer
		h := New(Config{Level: level, Quit: func() { quit = true }, Dump: func() any { return "secret-dump" }, Logger: slog.New(slog.NewTextHandler(&log, nil))}).private()
		var b bytes.Buffer
		b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		r, err := http.ReadRequest(bufio.NewReader(&b))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if method != "POST" && (quit || level.Level() != slog.LevelInfo) {
			t.Fatalf("%s %s changed something", method, target)
		}
		if !loopbackHost(r.Host) && w.Code != http.StatusForbidden {
			t.Fatalf("Host %q: %d", r.Host, w.Code)
		}
	})
}
