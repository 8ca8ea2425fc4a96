package xds

import "time"

// Status says how things stand. Times are zero if the thing never happened.
type Status struct {
	Target    string
	Connected bool      // whether a stream is open that has delivered or has lasted
	Since     time.Time // when Connected last changed
	Attempts  int       // streams tried since the last healthy one
	Error     string    // why the last stream ended, and Config.Advise about it
	Types     []TypeStatus
}

// TypeStatus is the part of a Status about one type.
type TypeStatus struct {
	URL       string
	Synced    bool      // whether a response has been applied ever
	Resources int       // held now
	LastACK   time.Time // when a response was last accepted whole
	LastNACK  time.Time // when something was last rejected
	NACK      string    // what was rejected then; empty once a response was accepted whole
}

// Stale is how long there has been no stream, or 0.
func (s *Status) Stale(now time.Time) time.Duration {
	if s.Connected || s.Since.IsZero() {
		return 0
	}
	return now.Sub(s.Since)
}

// Status may be called from any goroutine.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Types = append([]TypeStatus(nil), s.Types...)
	return s
}

func (c *Client) note(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// noteAnswer records how a response of a type was answered.
func (c *Client) noteAnswer(s *subscription, nack string) {
	c.note(func(status *Status) {
		for i := range status.Types {
			t := &status.Types[i]
			if t.URL != s.URL {
				continue
			}
			t.Synced, t.Resources, t.NACK = s.delivered, len(s.held), nack
			if nack == "" {
				t.LastACK = time.Now()
			} else {
				t.LastNACK = time.Now()
			}
		}
	})
}
