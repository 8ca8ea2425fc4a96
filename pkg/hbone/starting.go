package hbone

import "time"

// A starting holds back the handlers of CONNECTs until all that came with them
// has been read: one that was reset in the same breath costs no goroutine, no
// dial and no record. It belongs to the read loop, and never holds more than
// what one read brings.
type starting struct {
	start func(*Tunnel, *request)
	hasty func() bool // whether the peer has opened much lately
	held  []heldBack
}

type heldBack struct {
	t *Tunnel
	r *request
}

func (s *starting) hold(t *Tunnel, r *request) { s.held = append(s.held, heldBack{t, r}) }

// volley is how many handlers are started, or ended, at once. More take turns with
// the work of others: each of them dials, and records.
const volley = 8

// release starts the handlers of the streams that are still open.
func (s *starting) release() {
	free := 4 * volley
	if len(s.held) > volley && s.hasty() {
		free = volley
	}
	for i, h := range s.held {
		if i >= free && i%volley == 0 {
			time.Sleep(restTime)
		}
		s.held[i] = heldBack{}
		s.start(h.t, h.r)
	}
	if s.held = s.held[:0]; cap(s.held) > 16 {
		s.held = nil
	}
}
