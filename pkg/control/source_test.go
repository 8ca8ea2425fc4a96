package control

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// A desk is a source whose clock the test sets.
type desk struct {
	*source
	clock time.Time
	dir   string
}

func newDesk(t *testing.T, paths ...string) *desk {
	d := &desk{clock: time.Unix(1000, 0), dir: t.TempDir()}
	config := &Config{}
	for _, p := range paths {
		config.Paths = append(config.Paths, filepath.Join(d.dir, p))
	}
	config.CADir, config.Tokens = "x", "x"
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	d.source = &source{config: config, cache: newCache("istio-system"), files: map[string]*file{}, now: func() time.Time { return d.clock }}
	return d
}

func (d *desk) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *desk) served() string {
	if d.cache.tables == nil {
		return "nothing yet"
	}
	return strings.Join(slices.Sorted(maps.Keys(d.cache.tables[AgentPolicyType].resources)), " ")
}

func (d *desk) expect(t *testing.T, want string) {
	t.Helper()
	if got := d.served(); got != want {
		t.Errorf("served %q, want %q", got, want)
	}
}

func onePolicy(name string) string { return fmt.Sprintf(policyYAML, name, "b", "x") }

func TestAFileIsRemovedOnlyAfterAWhile(t *testing.T) {
	d := newDesk(t, "dir")
	d.write(t, "dir/one.yaml", onePolicy("one"))
	d.write(t, "dir/sub/two.yml", onePolicy("two"))
	d.write(t, "dir/.hidden.yaml", "not: [read")
	d.write(t, "dir/notes.txt", "not read")
	d.write(t, "dir/..data/x.yaml", "not: [read")
	if d.scan() {
		t.Error("wants to look again")
	}
	d.expect(t, "b/one b/two")
	os.Remove(filepath.Join(d.dir, "dir/one.yaml"))
	if !d.scan() {
		t.Error("does not look again")
	}
	d.expect(t, "b/one b/two")
	d.write(t, "dir/one.yaml", onePolicy("one"))
	d.clock = d.clock.Add(settle)
	d.scan()
	d.expect(t, "b/one b/two") // it came back: an editor's gap
	os.Remove(filepath.Join(d.dir, "dir/one.yaml"))
	d.scan()
	d.clock = d.clock.Add(settle)
	d.scan()
	d.expect(t, "b/two")
}

func TestWhatCannotBeReadKeepsItsContent(t *testing.T) {
	d := newDesk(t, "dir", "file.yaml")
	d.write(t, "dir/one.yaml", onePolicy("one"))
	d.write(t, "file.yaml", onePolicy("file"))
	d.scan()
	d.expect(t, "b/file b/one")
	if err := os.Rename(filepath.Join(d.dir, "dir"), filepath.Join(d.dir, "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.dir, "file.yaml")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.scan()
		d.clock = d.clock.Add(time.Hour)
	}
	d.expect(t, "b/file b/one")
	if p := d.problems(); len(p) != 2 || p[0].Effect != effectKept || p[0].Remedy == "" {
		t.Errorf("problems %+v", p)
	}
}

func TestMissingPathAtStartHoldsEverythingBack(t *testing.T) {
	d := newDesk(t, "a.yaml", "later.yaml")
	d.write(t, "a.yaml", onePolicy("a"))
	d.scan()
	d.expect(t, "nothing yet")
	d.write(t, "later.yaml", onePolicy("later"))
	d.scan()
	d.expect(t, "b/a b/later")
}

func TestMalformedFileKeepsItsLastContent(t *testing.T) {
	d := newDesk(t, "dir")
	d.write(t, "dir/a.yaml", onePolicy("one")+onePolicy("two"))
	d.scan()
	for _, bad := range []string{
		onePolicy("one") + "kind: [", onePolicy("three") + onePolicy("three"), "\xff", onePolicy("one") + "---\nkind: X\n",
		strings.Replace(onePolicy("three"), "action: Allow", "action: Allow, when: ['1 +']", 1), strings.Repeat("x", 5<<20),
		"", "\n \n", // truncated, to be written anew
	} {
		d.write(t, "dir/a.yaml", bad)
		d.scan()
		d.expect(t, "b/one b/two")
		if p := d.problems(); len(p) == 0 || p[0].Line == 0 || p[0].Effect != effectKept {
			t.Errorf("problems %+v", p)
		}
	}
	d.write(t, "dir/a.yaml", "# nothing\n")
	d.scan()
	d.expect(t, "")
	if p := d.problems(); len(p) != 0 {
		t.Errorf("problems %+v", p)
	}
}

// The demo's news are taken from these words.
func TestAMistakeAndItsEndAreLoggedOnce(t *testing.T) {
	d := newDesk(t, "dir")
	var log bytes.Buffer
	d.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	for _, content := range []string{onePolicy("one"), "not: [read", "not: [read", onePolicy("one"), onePolicy("two")} {
		d.write(t, "dir/one.yaml", content)
		d.scan()
		d.scan()
	}
	for words, times := range map[string]int{`level=ERROR msg="configuration problem" at=`: 1, `msg="configuration is good again"`: 1} {
		if got := strings.Count(log.String(), words); got != times {
			t.Errorf("%q was logged %d times, want %d: %s", words, got, times, log.String())
		}
	}
}

func TestOfTwoFilesThatSayTheSameNameTheFirstCounts(t *testing.T) {
	d := newDesk(t, "dir")
	d.write(t, "dir/a.yaml", onePolicy("same"))
	d.write(t, "dir/b.yaml", strings.Replace(onePolicy("same"), `"x"`, `"y"`, 1)+onePolicy("more"))
	d.scan()
	d.expect(t, "b/more b/same")
	p := d.problems()
	if len(p) != 1 || !strings.HasSuffix(p[0].File, "b.yaml") || !strings.Contains(p[0].Problem, "a.yaml:1") || p[0].Effect != effectLost {
		t.Errorf("problems %+v", p)
	}
	first := d.cache.tables[AgentPolicyType].resources["b/same"].Version
	d.write(t, "dir/b.yaml", onePolicy("more"))
	d.scan()
	if d.cache.tables[AgentPolicyType].resources["b/same"].Version != first || len(d.problems()) != 0 {
		t.Error("the second one was served")
	}
}

func TestKubernetesMountIsRead(t *testing.T) {
	d := newDesk(t, "mount")
	d.write(t, "mount/..2026/policy.yaml", onePolicy("one"))
	d.write(t, "mount/..2027/policy.yaml", onePolicy("two"))
	link := func(to string) {
		t.Helper()
		os.Remove(filepath.Join(d.dir, "mount/..data"))
		if err := os.Symlink(to, filepath.Join(d.dir, "mount/..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("..2026")
	if err := os.Symlink("..data/policy.yaml", filepath.Join(d.dir, "mount/policy.yaml")); err != nil {
		t.Fatal(err)
	}
	d.scan()
	d.expect(t, "b/one")
	link("..2027")
	d.scan()
	d.expect(t, "b/two")
}

func TestStatusTellsWhatIsPending(t *testing.T) {
	l := newLab(t, nil)
	l.write("bad.yaml", "kind: [\n")
	l.start()
	get := func(path, host string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.plane.StatusAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	eventually(t, "the file shows", func() bool { _, body := get("/healthz/ready", ""); return strings.Contains(body, "bad.yaml:") })
	if code, body := get("/healthz/ready", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, effectHeld) {
		t.Errorf("%d %s", code, body)
	}
	l.write("bad.yaml", onePolicy("good"))
	eventually(t, "ready", func() bool { code, _ := get("/healthz/ready", "localhost:1"); return code == http.StatusOK })
	_, body := get("/status", "")
	var st Status
	if err := json.Unmarshal([]byte(body), &st, json.RejectUnknownMembers(true)); err != nil || !st.Ready || st.Resources[AgentPolicyType] != 1 || len(st.Files) != 1 || !st.Files[0].Current {
		t.Errorf("%v %s", err, body)
	}
	if code, _ := get("/status", "evil.example"); code != http.StatusMisdirectedRequest {
		t.Errorf("a foreign name gets %d", code)
	}
}

func TestConfigSaysWhatIsMissing(t *testing.T) {
	for flag, c := range map[string]Config{
		"--config-path": {CADir: "x", Tokens: "x"}, "--ca-dir": {Paths: []string{"x"}, Tokens: "x"}, "--tokens": {Paths: []string{"x"}, CADir: "x"},
		"--max-certificate-ttl": {Paths: []string{"x"}, CADir: "x", Tokens: "x", MaxTTL: -1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	l := newLab(t, nil)
	l.start()
	second := l.config
	if _, err := New(second); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("a taken port: %v", err)
	}
}

func TestAProblemIsSaidWithWhatIsKnownOfIt(t *testing.T) {
	for want, p := range map[string]Problem{
		"a.yaml:2:1: mode is not known; write STRICT; it is lost": {"a.yaml", 2, 1, "mode is not known", "write STRICT", "it is lost"},
		"a.yaml: no such port; it is lost":                        {File: "a.yaml", Problem: "no such port", Effect: "it is lost"},
		"two of one name; it is lost":                             {Problem: "two of one name", Effect: "it is lost"},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
