package updates

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/discovery"
	"github.com/outrigger-mesh/outrigger/pkg/meshtest/scale"
)

// An Order is what the plane is to send.
type Order struct {
	Sink bool          // to the sink, not to the sidecar
	Per  int           // updates of each response
	For  time.Duration // at scale.PerSecond
}

// An Outcome is what came of an order. The times are from before a response is
// given to gRPC until its acknowledgement has come, when all of it is in effect:
// they hold both ways.
type Outcome struct {
	Updates  int
	Sending  time.Duration // how long it took to send them; longer than ordered if the stream is too slow
	P50, P99 time.Duration // of what an update waited
	Rejected string        // the last complaint, if there was one
}

// Stream gives an order to the plane whose control is at address.
func Stream(ctx context.Context, address string, o Order) (out Outcome, err error) {
	query := url.Values{"sink": {strconv.FormatBool(o.Sink)}, "per": {strconv.Itoa(o.Per)}, "for": {o.For.String()}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/?"+query.Encode(), nil)
	if err != nil {
		return out, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil || answer.StatusCode != http.StatusOK {
		return out, fmt.Errorf("order %v of the plane: %s: %w", query, answer.Status, err)
	}
	if out.Rejected != "" {
		return out, fmt.Errorf("updates were rejected: %s", out.Rejected)
	}
	return out, nil
}

func (p *Plane) order(w http.ResponseWriter, r *http.Request) {
	var o Order
	o.Sink = r.FormValue("sink") == "true"
	o.Per, _ = strconv.Atoi(r.FormValue("per"))
	o.For, _ = time.ParseDuration(r.FormValue("for"))
	s, err := p.find(o.Sink)
	if err == nil && o.Per > 0 {
		err = p.stream(s, o)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(s.outcome(o)) // who ordered notices
}

// patience is how long the last acknowledgements may take.
const patience = 10 * time.Second

func (p *Plane) stream(s *stream, o Order) error {
	s.mu.Lock()
	s.took, s.rejected, s.sending = nil, "", 0
	s.mu.Unlock()
	interval := time.Second * time.Duration(o.Per) / scale.PerSecond
	start := time.Now()
	next := 0
	for at := time.Duration(0); at < o.For; at += interval {
		time.Sleep(time.Until(start.Add(at)))
		var resources encoded
		for range o.Per {
			all := p.mesh.updates[next/scale.PerSecond%2]
			resources = append(resources, all[next%scale.PerSecond]...)
			next++
		}
		if err := s.send(discovery.AddressType, resources); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.sending = max(o.For, time.Since(start))
	s.mu.Unlock()
	for end := time.Now().Add(patience); s.waiting() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d responses are not answered", s.waiting())
		}
	}
	return nil
}

func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

func (s *stream) outcome(o Order) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.took)
	out := Outcome{Updates: len(s.took) * o.Per, Sending: s.sending, Rejected: s.rejected}
	if n := len(s.took); n > 0 {
		out.P50, out.P99 = s.took[n/2], s.took[n*99/100]
	}
	return out
}
