package bypass

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func corpus(t *testing.T) []Case {
	t.Helper()
	f, err := os.Open("../../../testdata/bypass/corpus.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestTheCorpusIsWhole(t *testing.T) {
	cases := corpus(t)
	if len(cases) < 300 {
		t.Errorf("only %d cases", len(cases))
	}
	for _, c := range cases {
		if c.Why == "" || len(c.Bytes()) == 0 {
			t.Errorf("%s says nothing", c.Name)
		}
	}
}

func TestReadRejectsWhatIsNoCorpus(t *testing.T) {
	for _, text := range []string{
		`{"name":"a","verdict":"pass"} {"name":"a","verdict":"pass"}`,
		`{"name":"a","verdict":"maybe"}`,
		`{"verdict":"pass"}`,
		`{"name":"a","verdict":"pass","other":1}`,
		`[`,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("read %s", text)
		}
	}
}

func TestJudgeGoesByWhatWasRun(t *testing.T) {
	for _, c := range []struct {
		verdict         Verdict
		direct, proxied string
		want            Finding
	}{
		{Pass, "safe\n", "safe\n", Fine},
		{Pass, "safe\n", "", FalseDenial},
		{Pass, "", "", Fine},
		{Deny, "danger\n", "", Fine},
		{Deny, "danger\n", "danger\n", Hole},
		{Refuse, "danger\nsafe\n", "safe\n", Fine},
		{Refuse, "", "prompt danger\n", Hole},
		{Pass, "safe\n", "safe\nfile:///danger\n", Hole},
	} {
		if got := (&Case{Verdict: c.verdict}).Judge(c.direct, c.proxied); got != c.want {
			t.Errorf("%s, direct %q, proxied %q: %q", c.verdict, c.direct, c.proxied, got)
		}
	}
}
