package identity

import "time"

// An alarm is what is wrong and since when; its zero value is that nothing is.
// Its owner's lock guards it.
type alarm struct {
	err   error
	since time.Time
}

// raise keeps the time of the first of several alarms in a row.
func (a *alarm) raise(err error) {
	if a.err == nil {
		a.since = time.Now()
	}
	a.err = err
}

func (a *alarm) clear() { *a = alarm{} }

// older is the earlier of two times of which either may be zero, for never.
func older(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
