package inspect

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A payload is one case of testdata.
type payload struct{ name, outcome, bytes string }

var repeat = regexp.MustCompile(`(?s)\{(.*?)\*(\d+)\}`)

func payloads(t testing.TB, file string) (all []payload) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "    "):
			s, err := strconv.Unquote(strings.TrimSpace(line))
			if err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			all[len(all)-1].bytes += repeat.ReplaceAllStringFunc(s, func(m string) string {
				part := repeat.FindStringSubmatch(m)
				n, _ := strconv.Atoi(part[2])
				return strings.Repeat(part[1], n)
			})
		default:
			k := strings.LastIndex(line, ": ")
			all = append(all, payload{name: line[:k], outcome: line[k+2:]})
		}
	}
	return all
}

// passed tells how many requests of a payload must reach the app, and the status
// after them, "" if there is none.
func (p payload) passed() (n int, then string) {
	rest, ok := strings.CutPrefix(p.outcome, "ok")
	if !ok {
		return 0, p.outcome
	}
	n = 1
	fmt.Sscanf(rest, " %d then %s", &n, &then)
	return n, then
}

// A sighting is a request as somebody read it.
type sighting struct {
	Method, Target, Host string
	Header               []string // "name: value", lower-case names, sorted, without framing and Host
	Body                 string
}

type sightings struct {
	mu  sync.Mutex
	all []sighting
}

func (s *sightings) add(x sighting) {
	slices.Sort(x.Header)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, x)
}

func (s *sightings) take() []sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.all
	s.all = nil
	return all
}

func framingField(name string) bool {
	name = strings.ToLower(name)
	return name == "content-length" || name == "transfer-encoding" || name == "host"
}

// goApp is a net/http server that notes what it read to the end.
func goApp(t testing.TB, seen *sightings) string { return app(t, notes(seen)) }

func notes(seen *sightings) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s := sighting{Method: r.Method, Target: r.RequestURI, Host: r.Host, Body: string(body)}
		for name, values := range r.Header {
			for _, v := range values {
				if !framingField(name) {
					s.Header = append(s.Header, strings.ToLower(name)+": "+v)
				}
			}
		}
		seen.add(s)
	}
}

// note is a layer that notes what the engine decides on.
func note(seen *sightings) Layer {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, x *Exchange) (*Response, error) {
			r := x.Request
			s := sighting{Method: r.Method, Target: r.Target, Host: r.Host}
			for _, f := range r.Header {
				if !framingField(f.Name) {
					s.Header = append(s.Header, strings.ToLower(f.Name)+": "+f.Value)
				}
			}
			var body strings.Builder
			r.Body = io.TeeReader(r.Body, &body)
			resp, err := next.Do(ctx, x)
			if err == nil {
				s.Body = body.String()
				seen.add(s)
			}
			return resp, err
		})
	}
}

// converse sends a payload and returns the statuses of the final responses.
func converse(t *testing.T, addr string, p payload) (statuses []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, p.bytes)
	n, then := p.passed()
	method, _, _ := strings.Cut(p.bytes, " ")
	r := bufio.NewReader(c)
	for {
		if then == "" && len(statuses) == n {
			c.(*net.TCPConn).CloseWrite() // whatever is left over is answered before the end
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return statuses
		}
		if resp.StatusCode < 200 {
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		statuses = append(statuses, strconv.Itoa(resp.StatusCode))
	}
}

func TestRequestsHaveTheirStatedOutcome(t *testing.T) {
	cases := payloads(t, "requests.txt")
	if len(cases) < 200 {
		t.Fatalf("only %d payloads", len(cases))
	}
	var seen sightings
	d := open(t, goApp(t, &seen), Config{})
	for _, p := range cases {
		t.Run(p.name, func(t *testing.T) {
			n, then := p.passed()
			want := slices.Repeat([]string{"200"}, n)
			if then != "" && then != "close" {
				want = append(want, then)
			}
			if got := converse(t, d.addr, p); !slices.Equal(got, want) {
				t.Errorf("statuses %v, want %v", got, want)
			}
			err := <-d.errs
			if got := seen.take(); len(got) != n {
				t.Errorf("%d requests reached the app, want %d: %+v", len(got), n, got)
			}
			if (err == nil) != (then == "") {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
}

// differ sends every payload through the engine to another server and compares what
// that one read with what the engine decided on.
func differ(t *testing.T, addr string, theirs func() []sighting) {
	var ours sightings
	d := open(t, addr, Config{Layers: []Layer{note(&ours)}})
	for _, p := range payloads(t, "requests.txt") {
		converse(t, d.addr, p)
		<-d.errs
		want, got := ours.take(), theirs()
		if n, _ := p.passed(); len(want) != n {
			t.Errorf("%s: we passed %d requests, want %d", p.name, len(want), n)
		}
		if !slices.EqualFunc(got, want, func(a, b sighting) bool { return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b) }) {
			t.Errorf("%s:\nwe decided on  %.2000q\nthe app read   %.2000q", p.name, want, got)
		}
	}
}

func TestNetHTTPReadsWhatWeDecidedOn(t *testing.T) {
	var theirs sightings
	differ(t, goApp(t, &theirs), theirs.take)
}

// nodeApp starts testdata/app.js and returns its address and what it has read since it
// was last asked. Where Node is missing the test proves nothing and says so;
// OUTRIGGER_NODE makes that a failure, and may name the binary.
func nodeApp(t *testing.T, args ...string) (addr string, theirs func() []sighting) {
	t.Helper()
	node := os.Getenv("OUTRIGGER_NODE")
	path, err := exec.LookPath(or2(node, "node"))
	if err != nil {
		if node != "" {
			t.Fatal(err)
		}
		t.Log("no node on this machine: nothing was compared")
		return "", nil
	}
	cmd := exec.Command(path, append([]string{"--max-http-header-size=65536", "testdata/app.js"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its input
		cmd.Wait()
	})
	lines := bufio.NewReader(out)
	port, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strings.TrimSpace(port), func() (all []sighting) {
		io.WriteString(in, "?\n") // answered with what was read since
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(line), &all); err != nil {
			t.Fatal(err)
		}
		for i := range all {
			all[i].Body = latin1(all[i].Body)
			for k := range all[i].Header {
				all[i].Header[k] = latin1(all[i].Header[k])
			}
			slices.Sort(all[i].Header)
		}
		return all
	}
}

func TestNodeReadsWhatWeDecidedOn(t *testing.T) {
	if addr, theirs := nodeApp(t); addr != "" {
		differ(t, addr, theirs)
	}
}

// latin1 returns the bytes that Node reads as the characters of s.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func or2(a, b string) string {
	if a != "" && a != "1" {
		return a
	}
	return b
}

func TestResponsesHaveTheirStatedOutcome(t *testing.T) {
	cases := payloads(t, "responses.txt")
	for _, p := range cases {
		t.Run(p.name, func(t *testing.T) {
			d := open(t, script(t, p.bytes), Config{})
			c, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			c.Close()
			got := strconv.Itoa(resp.StatusCode)
			if got == "502" && p.outcome == "cut" {
				got = "cut"
			}
			switch served := <-d.errs; {
			case err != nil:
				got = "cut"
			case served == nil:
				got = fmt.Sprintf("ok %q", body)
			}
			if got != p.outcome {
				t.Errorf("got %s, want %s", got, p.outcome)
			}
		})
	}
}
