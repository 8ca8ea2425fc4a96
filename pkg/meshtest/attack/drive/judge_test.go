package main

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnAttackMustBeStoppedAndLeaveTheClientAlone(t *testing.T) {
	const ms = time.Millisecond
	cut := strikes{connected: 1, cuts: 1, longest: 10 * ms}
	held := outcome{strikes: cut, quiet: ms, p99: 2 * ms, share: 0.5}
	slow := outcome{strikes: cut, quiet: ms, p99: 3 * ms}
	costly := outcome{quiet: ms, p99: ms, share: 0.11}
	late := outcome{strikes: strikes{cuts: 1, longest: 2 * time.Second}, quiet: ms, p99: ms, share: 0.11}
	told := func(o outcome) outcome { o.shared = true; return o }
	ruined := told(outcome{strikes: cut, quiet: ms, p99: 6 * ms})
	disturbed := func(o outcome) outcome { o.disturbed = true; return o }
	for name, c := range map[string]struct {
		all       []outcome
		ok, blind bool
	}{
		"cut at once":                         {[]outcome{held}, true, false},
		"cheap, and never cut":                {[]outcome{{quiet: ms, p99: ms, share: 0.1}}, true, false},
		"the client waits":                    {[]outcome{slow}, false, false},
		"costly, and never cut":               {[]outcome{costly}, false, false},
		"costly, and cut late":                {[]outcome{late}, false, false},
		"the median is out of bounds":         {[]outcome{slow, held, slow}, false, false},
		"the median is held":                  {[]outcome{slow, held, held}, true, false},
		"disturbed ones do not count":         {[]outcome{disturbed(slow), disturbed(slow), held}, true, false},
		"all are disturbed":                   {[]outcome{disturbed(slow), disturbed(slow)}, true, true},
		"costly, where others work, too":      {[]outcome{told(late)}, true, false},
		"too costly there, and never cut":     {[]outcome{told(outcome{quiet: ms, p99: ms, share: 0.51})}, false, false},
		"too costly there, and cut late":      {[]outcome{told(outcome{strikes: late.strikes, quiet: ms, p99: ms, share: 0.51})}, false, false},
		"others use the machine":              {[]outcome{told(slow)}, true, false},
		"it ruins the client whoever does":    {[]outcome{ruined, ruined, ruined}, false, false},
		"the best counts there":               {[]outcome{ruined, disturbed(ruined), disturbed(told(slow))}, true, false},
		"a sink does the same to the client":  {[]outcome{{strikes: cut, quiet: ms, busy: 2 * ms, p99: 4 * ms}}, true, false},
		"disturbance does not excuse the cut": {[]outcome{disturbed(costly)}, false, true},
	} {
		if v := judge(c.all); v.ok() != c.ok || v.blind != c.blind {
			t.Errorf("%s: ok %v, blind %v", name, v.ok(), v.blind)
		}
	}
}

func TestARoundThatPassesOverMoreThanAFewFails(t *testing.T) {
	for _, c := range []struct {
		driven, passed int
		ok             bool
	}{
		{40, 0, true}, {39, 1, true}, {38, 2, true}, {37, 3, false},
		{1, 0, true}, {18, 1, false}, {0, 1, false}, {0, 0, false},
	} {
		if err := enough(c.driven, c.passed, ""); (err == nil) != c.ok {
			t.Errorf("%d driven, %d passed over: %v", c.driven, c.passed, err)
		}
	}
}
