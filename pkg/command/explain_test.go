package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARecordWithoutCallsIsNamed(t *testing.T) {
	const connection = `{"event":"connection"}` + "\n"
	path := filepath.Join(t.TempDir(), "audit-of-tuesday.jsonl")
	if err := os.WriteFile(path, []byte(connection), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, in, says string }{
		{path, "", path + " has no record of a call"},
		{"-", connection, "standard input has no record of a call"},
		{"-", connection + "no JSON\n", "standard input line 2: "},
	} {
		if _, err := calls(nil, c.path, strings.NewReader(c.in)); err == nil || !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.path, err, c.says)
		}
	}
}
