package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, dir, name, checks string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "checks.json"), []byte(checks), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDiffNamesEveryCheckThatChanged(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	write(t, a, "server-tools-list-2026-11-25T13-01-14-453Z", `[
		{"id":"same","status":"SUCCESS","details":{"x":1}},
		{"id":"worse","status":"SUCCESS"},
		{"id":"log","status":"INFO"},
		{"id":"twice","status":"SUCCESS"},{"id":"twice","status":"SUCCESS"},
		{"id":"gone","status":"WARNING"}]`)
	write(t, b, "server-tools-list-2026-11-25T13-02-14-453Z", `[
		{"id":"same","status":"SUCCESS","details":{"x":2}},
		{"id":"worse","status":"FAILURE","errorMessage":"why"},
		{"id":"log","status":"INFO"},{"id":"log","status":"INFO"},
		{"id":"twice","status":"SUCCESS"},{"id":"twice","status":"FAILURE"},
		{"id":"new","status":"SKIPPED"}]`)
	direct, err := Read(a)
	if err != nil {
		t.Fatal(err)
	}
	proxied, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if direct.Passed != 4 || direct.Failed != 0 || proxied.Passed != 2 || proxied.Failed != 2 {
		t.Errorf("counted %+v, %+v", direct, proxied)
	}
	want := "[tools-list/gone: direct [WARNING], proxied [not made]" +
		" tools-list/new: direct [not made], proxied [SKIPPED]" +
		" tools-list/twice#2: direct [SUCCESS], proxied [FAILURE]" +
		" tools-list/worse: direct [SUCCESS], proxied [FAILURE (why)]]"
	if got := fmt.Sprint(Diff([]*Result{direct}, []*Result{proxied})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d := Diff([]*Result{direct}, []*Result{direct}); d != nil {
		t.Errorf("differs from itself: %v", d)
	}
}

func TestOnlyWhatTheServerDoesAloneIsUnsteady(t *testing.T) {
	checks := func(statuses string) (all []Check) {
		for _, s := range strings.Split(statuses, " ") {
			all = append(all, Check{Status: map[string]string{"ok": "SUCCESS", "warn": "WARNING", "bad": "FAILURE", "none": ""}[s]})
		}
		return all
	}
	for _, c := range []struct {
		direct, proxied string
		unsteady        bool
	}{
		{"ok ok ok", "bad bad bad", false},
		{"ok ok ok", "bad ok ok", false},
		{"ok ok ok", "none ok ok", false},
		{"ok ok ok", "warn warn warn", false},
		{"ok ok ok", "warn ok ok", true},
		{"warn ok ok", "ok ok ok", true},
		{"warn warn warn", "ok ok ok", false},
		{"bad ok ok", "ok ok ok", true},
		{"bad bad bad", "ok ok ok", false},
		{"bad ok ok", "ok bad bad", true},
	} {
		if got := (Difference{Direct: checks(c.direct), Proxied: checks(c.proxied)}).unsteady(); got != c.unsteady {
			t.Errorf("direct %s, proxied %s: unsteady %v", c.direct, c.proxied, got)
		}
	}
	for proxied, unsteady := range map[string]bool{"none ok ok": true, "none none none": false, "none bad ok": false} {
		if got := (Difference{Check: "a/b#2", Direct: checks("ok ok ok"), Proxied: checks(proxied)}).unsteady(); got != unsteady {
			t.Errorf("a repetition, proxied %s: unsteady %v", proxied, got)
		}
	}
}

func TestReadRejectsWhatIsNoResult(t *testing.T) {
	for name, prepare := range map[string]func(dir string){
		"nothing":          func(string) {},
		"another name":     func(dir string) { write(t, dir, "else", `[]`) },
		"not JSON":         func(dir string) { write(t, dir, "server-x-2026-11-25T13-01-14-453Z", `[`) },
		"no check in it":   func(dir string) { write(t, dir, "server-x-2026-11-25T13-01-14-453Z", `[]`) },
		"only information": func(dir string) { write(t, dir, "server-x-2026-11-25T13-01-14-453Z", `[{"id":"a","status":"INFO"}]`) },
	} {
		dir := t.TempDir()
		prepare(dir)
		if r, err := Read(dir); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}
