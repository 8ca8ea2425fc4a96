package mcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
	"github.com/outrigger-mesh/outrigger/pkg/telemetry"
)

const (
	answerTime = 5 * time.Second // for a server to take one denial, and for those that are left at a stream's end
	maxTold    = 16              // denials of one stream that a server has not taken yet; then the stream waits
)

// A teller tells a server that its requests were denied, one after the other and beside
// the stream that they came on: a server whose request only vanished would wait for ever,
// and its other events shall not wait for it to listen.
type teller struct {
	cancel context.CancelFunc
	ctx    context.Context // of all posts
	last   chan struct{}   // closed when the latest was told
	places chan struct{}
	work   sync.WaitGroup
}

// A told is one denial. It needs nothing of the exchange, which goes on.
type told struct {
	open    func(context.Context) (net.Conn, error)
	request *inspect.Request
	record  *telemetry.Call
}

// tell has the server told, in the client's place and session, after those before.
func (e *exchange) tell(ctx context.Context, d *told) {
	if e.teller == nil {
		e.teller = &teller{places: make(chan struct{}, maxTold)}
		e.teller.ctx, e.teller.cancel = context.WithCancel(ctx)
	}
	t := e.teller
	t.places <- struct{}{}
	before, done := t.last, make(chan struct{})
	t.last = done
	t.work.Go(func() {
		defer func() {
			close(done)
			<-t.places
		}()
		if before != nil {
			<-before
		}
		if err := d.post(t.ctx); err != nil {
			d.record.Decision.Reason += fmt.Sprintf("; and the server could not be told: %v", err)
		}
		d.record.Finish(nil)
	})
}

// end waits for what is still to be told, for a while.
func (t *teller) end() {
	if t == nil {
		return
	}
	defer t.cancel()
	patience := time.AfterFunc(answerTime, t.cancel)
	defer patience.Stop()
	t.work.Wait()
}

// post sends a denial to the server.
func (d *told) post(ctx context.Context) error {
	if d.open == nil {
		return errors.New("no way to the server")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := d.open(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	answer, err := inspect.RoundTrip(ctx, conn, d.request, inspect.Limits{})
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	if answer.Body != nil {
		answer.Body.Close()
	}
	if answer.Status >= 300 {
		return fmt.Errorf("the server answered with status %d", answer.Status)
	}
	return nil
}
