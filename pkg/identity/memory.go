package identity

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Memory is a Source that is given its SVIDs by Set. The other sources keep
// theirs in one. Its zero value is ready and has none.
type Memory struct {
	mu      sync.Mutex // guards what follows
	svid    *SVID
	alarm   alarm         // why there is no SVID, or no newer one
	changed chan struct{} // made when somebody asks
}

// NewMemory returns a source that has svid.
func NewMemory(svid *SVID) *Memory { return &Memory{svid: svid} }

// Set replaces the SVID.
func (m *Memory) Set(svid *SVID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.svid = svid
	m.alarm.clear()
	m.announce()
}

// SVID is the one last set, until it ends.
func (m *Memory) SVID() (*SVID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.svid != nil && !time.Now().After(m.svid.NotAfter):
		return m.svid, nil
	case m.svid != nil && m.alarm.err != nil:
		return nil, fmt.Errorf("%w: it ended at %v: %w", ErrNoIdentity, m.svid.NotAfter, m.alarm.err)
	case m.svid != nil:
		return nil, fmt.Errorf("%w: it ended at %v", ErrNoIdentity, m.svid.NotAfter)
	case m.alarm.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoIdentity, m.alarm.err)
	}
	return nil, ErrNoIdentity
}

// Changed is closed at the next Set, or when the SVID ends while Run runs.
func (m *Memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// Err says why there is no SVID or why it could not be renewed; nil if all is well.
func (m *Memory) Err() error {
	if _, err := m.SVID(); err != nil {
		return err // it says why there is none
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alarm.err
}

// FailingSince is since when there has been no SVID or no newer one to be had;
// zero if all is well, or if there never was any and none was tried for.
func (m *Memory) FailingSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.svid != nil && time.Now().After(m.svid.NotAfter) {
		return older(m.alarm.since, m.svid.NotAfter)
	}
	return m.alarm.since
}

// Run announces the end of the SVID until ctx ends.
func (m *Memory) Run(ctx context.Context) error {
	for {
		changed := m.Changed()
		end, stop := m.end()
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-changed:
			stop()
		case <-end:
			m.mu.Lock()
			m.announce()
			m.mu.Unlock()
		}
	}
}

// end fires once when the SVID ends; never if it has or if there is none.
func (m *Memory) end() (<-chan time.Time, func() bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.svid == nil || time.Now().After(m.svid.NotAfter) {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(time.Until(m.svid.NotAfter) + time.Millisecond) // past NotAfter, when SVID refuses
	return t.C, t.Stop
}

func (m *Memory) announce() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// fail notes why the SVID could not be renewed.
func (m *Memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alarm.raise(err)
}

// well notes that the SVID in use is the newest after all.
func (m *Memory) well() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alarm.clear()
}
