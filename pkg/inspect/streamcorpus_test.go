package inspect

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A streamCase is one case of testdata/streams.txt.
type streamCase struct {
	name, outcome string
	steps         []string
}

var stepForm = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\S+`)

func streamCases(t testing.TB) (all []streamCase) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "streams.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "    "):
			c := &all[len(all)-1]
			c.steps = append(c.steps, stepForm.FindAllString(line, -1)...)
		default:
			k := strings.LastIndex(line, ": ")
			all = append(all, streamCase{name: line[:k], outcome: line[k+2:]})
		}
	}
	return all
}

// frames writes the frames of a case on stream 1.
func (c streamCase) frames(t testing.TB) []byte {
	t.Helper()
	var out, block bytes.Buffer
	fr, enc := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	field := func(name, value string) { enc.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	text := func(step string) string {
		s, err := strconv.Unquote(step)
		if err != nil {
			t.Fatalf("%s: %s: %v", c.name, step, err)
		}
		return repeat.ReplaceAllStringFunc(s, func(m string) string {
			part := repeat.FindStringSubmatch(m)
			n, _ := strconv.Atoi(part[2])
			return strings.Repeat(part[1], n)
		})
	}
	header := true
	flush := func(end bool) {
		if !header {
			return
		}
		header = false
		b := block.Bytes()
		first := min(len(b), 16000)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:first], EndStream: end, EndHeaders: first == len(b)})
		for b = b[first:]; len(b) > 0; {
			n := min(len(b), 16000)
			fr.WriteContinuation(1, n == len(b), b[:n])
			b = b[n:]
		}
		block.Reset()
	}
	for i := 0; i < len(c.steps); i++ {
		switch step := c.steps[i]; step {
		case "get", "post":
			field(":method", strings.ToUpper(step))
			field(":scheme", "http")
			field(":authority", "a")
			field(":path", "/mcp")
		case "many":
			i++
			n, _ := strconv.Atoi(c.steps[i])
			for k := range n {
				field("x-"+strconv.Itoa(k), "")
			}
		case "data":
			flush(false)
			i++
			last := i+1 < len(c.steps) && c.steps[i+1] == "end"
			fr.WriteData(1, last, []byte(text(c.steps[i])))
		case "trailer":
			flush(false)
			header = true
		case "end":
			flush(true)
		default:
			i++
			field(text(step), text(c.steps[i]))
		}
	}
	flush(false)
	return out.Bytes()
}

// exchangeFrames sends frames and returns how the stream, or the connection, ended.
func exchangeFrames(t testing.TB, addr string, frames []byte) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	c.Write(frames)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status != "100" {
				return status
			}
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("reset %v", f.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Sprintf("goaway %v", f.ErrCode)
		}
	}
}

// differStreams sends every case through the engine to an app, holds it to its outcome,
// and compares what the app read with what the layers saw.
func differStreams(t *testing.T, addr string, theirs func() []sighting) {
	var ours sightings
	d := open(t, addr, Config{Layers: []Layer{note(&ours)}})
	cases := streamCases(t)
	if len(cases) < 119 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		want := c.outcome
		if want == "ok" {
			want = "200"
		}
		if got := exchangeFrames(t, d.addr, c.frames(t)); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		err := <-d.errs
		decided, read := joinCookies(ours.take()), joinCookies(theirs())
		if c.outcome == "ok" != (len(decided) == 1 && err == nil) {
			t.Errorf("%s: we passed %d requests, and Serve returned %v", c.name, len(decided), err)
		}
		if !slices.EqualFunc(read, decided, func(a, b sighting) bool { return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b) }) {
			t.Errorf("%s:\nwe decided on  %.2000q\nthe app read   %.2000q", c.name, decided, read)
		}
	}
}

// joinCookies makes one of the pieces of a cookie, as RFC 9113 §8.2.3 has it.
func joinCookies(all []sighting) []sighting {
	for i := range all {
		h := all[i].Header
		for k := len(h) - 1; k > 0; k-- {
			if rest, ok := strings.CutPrefix(h[k], "cookie: "); ok && strings.HasPrefix(h[k-1], "cookie: ") {
				h[k-1] += "; " + rest
				h = slices.Delete(h, k, k+1)
			}
		}
		all[i].Header = h
	}
	return all
}

func TestStreamsHaveTheirStatedOutcomeWithGo(t *testing.T) {
	var theirs sightings
	differStreams(t, h2App(t, notes(&theirs)), theirs.take)
}

func TestStreamsHaveTheirStatedOutcomeWithNode(t *testing.T) {
	if addr, theirs := nodeApp(t, "h2"); addr != "" {
		differStreams(t, addr, theirs)
	}
}
