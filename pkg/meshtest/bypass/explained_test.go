//go:build bypass

package bypass

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/pkg/explain"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

// beforePolicy are how the reasons begin of what is denied without a question to policy.
var beforePolicy = []string{"not accepted: ", "not passed on: ", "revision 2026-07-28 ", "only servers ", "another element of the batch ", "the task belongs ", "a caller may end "}

// explained checks that every decision that the sidecar recorded is made again, offline, from
// its record and a dump of the sidecar's configuration: the same outcome by the same rule.
func (r *records) explained(t *testing.T, cases int) {
	t.Helper()
	answer, err := http.Get("http://" + r.admin + "/config_dump")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	world, err := explain.Load(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	made := map[bool]int{}
	for line := range strings.Lines(string(data)) {
		_, decided, err := telemetry.ReadCall([]byte(line))
		if err != nil {
			continue // a connection's
		}
		if without(decided.Reason) {
			continue
		}
		again, err := world.Call([]byte(line))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if again.Allowed != decided.Allowed || !again.Certain || *again.Recorded != decided.Allowed || !names(again, decided.Policy, decided.Rule) {
			t.Errorf("explained as %v (certain: %v): %s\nrecorded: %s", again.Allowed, again.Certain, strings.Join(again.Lines, "\n  "), line)
		}
		made[decided.Allowed]++
	}
	if made[true] < cases/8 || made[false] < cases/8 {
		t.Errorf("of %d cases only %d that were allowed and %d that were denied could be explained", cases, made[true], made[false])
	}
	t.Logf("%d decisions that allowed and %d that denied were made again from their records", made[true], made[false])
}

func without(reason string) bool {
	for _, prefix := range beforePolicy {
		if strings.HasPrefix(reason, prefix) {
			return true
		}
	}
	return false
}

// names tells whether the answer says that the rule decides; a call that no rule governs
// is denied by none.
func names(a *explain.Answer, policy, rule string) bool {
	for _, line := range a.Lines {
		if rule != "" && strings.HasPrefix(line, policy+" rule "+rule+" ") && strings.HasSuffix(line, "; it decides") {
			return true
		}
		if rule == "" && strings.HasSuffix(line, "; it decides") {
			return false
		}
	}
	return rule == ""
}
