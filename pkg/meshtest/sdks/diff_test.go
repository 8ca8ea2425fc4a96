package sdks

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDiffNamesWhatAClientSawOtherwise(t *testing.T) {
	const base = `{"tools":["a","b"],"resources":[],"prompts":["p"],"calls":[{"isError":false,"content":[]},{"error":{"code":1}}]}`
	for _, c := range []struct{ other, want string }{
		{`{"prompts":["p"],"tools":[ "a","b"],"resources":[],"calls":[{"content":[],"isError":false},{"error":{"code":1}}]}`, "[]"},
		{`{"tools":["b","a"],"resources":[],"prompts":["p"],"calls":[{"isError":false,"content":[]},{"error":{"code":1}}]}`, `[tools: ["a","b"], then ["b","a"]]`},
		{`{"tools":["a","b"],"resources":[],"prompts":["p"],"calls":[{"isError":true,"content":[]}]}`,
			`[call 0: {"content":[],"isError":false}, then {"content":[],"isError":true} call 1: {"error":{"code":1}}, then null]`},
	} {
		a, err := Parse([]byte(base))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse([]byte(c.other))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(Diff(a, b)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if _, err := Parse([]byte("Traceback")); err == nil {
		t.Error("what is no JSON was read")
	}
}
