package identity

import "sync"

// An Admitted holds the peers of open connections, to be checked again when
// what admitted them may have changed. Its methods may be called from any
// goroutine.
type Admitted struct {
	check func(*Peer) error // Recheck of a Mutual

	mu   sync.Mutex // guards what follows
	open map[*Peer]func(error)
}

// NewAdmitted holds nobody yet. check tells whether a peer would be admitted now.
func NewAdmitted(check func(*Peer) error) *Admitted {
	return &Admitted{check: check, open: make(map[*Peer]func(error))}
}

// Add registers a connection's peer and only then checks it, so that no change
// falls between the check and the watch over it. An error means that the peer
// is not admitted, whatever its handshake found, and is not held. Else cut is
// called, once at the most, when a later check refuses it. It must not block,
// and may be called before Add returns. p must not be in use for another
// connection.
func (a *Admitted) Add(p *Peer, cut func(error)) error {
	a.mu.Lock()
	a.open[p] = cut
	a.mu.Unlock()
	if err := a.check(p); err != nil {
		a.Remove(p)
		return err
	}
	return nil
}

// Remove forgets a connection. It may be called more than once.
func (a *Admitted) Remove(p *Peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, p)
}

// Recheck checks every peer and cuts those that would not be admitted now.
func (a *Admitted) Recheck() {
	a.mu.Lock()
	peers := make([]*Peer, 0, len(a.open))
	for p := range a.open {
		peers = append(peers, p)
	}
	a.mu.Unlock()
	for _, p := range peers {
		if err := a.check(p); err != nil {
			a.cut(p, err)
		}
	}
}

func (a *Admitted) cut(p *Peer, err error) {
	a.mu.Lock()
	cut, open := a.open[p]
	delete(a.open, p)
	a.mu.Unlock()
	if open {
		cut(err)
	}
}
