package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An ending says how a stream went.
type ending struct {
	err    error         // never nil
	opened bool          // whether there was a stream at all
	lived  time.Duration // since the stream was open
}

func (e ending) healthy() bool { return e.lived >= healthyAfter }

// clean tells whether the control plane ended the stream in an orderly way, as
// istiod does every half hour to spread the load.
func (e ending) clean() bool { return e.kind() == EndRenewed || e.kind() == EndComplete }

func (e ending) kind() End {
	if !e.opened {
		return EndUnopened
	}
	if errors.Is(e.err, io.EOF) {
		return EndComplete
	}
	s, ok := status.FromError(e.err)
	if ok && s.Code() == codes.Unavailable && strings.Contains(s.Message(), "received prior goaway: code: NO_ERROR") {
		return EndRenewed
	}
	return EndError
}

// session is the life of one stream.
func (c *Client) session(ctx context.Context) (end ending) {
	var opened time.Time
	defer func() {
		if p := recover(); p != nil {
			c.config.Logger.Error("applying a response panicked", "panic", p, "stack", string(debug.Stack()))
			end.err = fmt.Errorf("applying a response panicked: %v", p)
		}
		if !opened.IsZero() {
			end.lived = time.Since(opened)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	var receiver sync.WaitGroup
	defer receiver.Wait()
	str, hangUp, err := c.open(ctx)
	if err != nil {
		cancel()
		end.err = err
		return end
	}
	opened, end.opened = time.Now(), true
	defer hangUp()
	defer cancel()
	responses := make(chan *discoveryv3.DeltaDiscoveryResponse)
	broken := make(chan error, 1)
	receiver.Go(func() { receive(ctx, str, responses, broken) })
	if end.err = c.begin(str); end.err == nil {
		end.err = c.converse(str, responses, broken)
	}
	for errors.Is(end.err, errSend) {
		select {
		case end.err = <-broken:
		case <-responses: // came before the break; it is sent again on the next stream
		}
	}
	return end
}

// errSend means that Send failed: gRPC says only io.EOF there and why in Recv.
var errSend = errors.New("stream is broken")

func send(str stream, r *discoveryv3.DeltaDiscoveryRequest) error {
	if err := str.Send(r); errors.Is(err, io.EOF) {
		return errSend
	} else if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func receive(ctx context.Context, str stream, responses chan<- *discoveryv3.DeltaDiscoveryResponse, broken chan<- error) {
	for {
		r, err := str.Recv()
		if err != nil {
			broken <- err
			return
		}
		select {
		case responses <- r:
		case <-ctx.Done():
			broken <- ctx.Err()
			return
		}
	}
}

// converse answers until the stream breaks; all sending is done here.
func (c *Client) converse(str stream, responses <-chan *discoveryv3.DeltaDiscoveryResponse, broken <-chan error) error {
	// A control plane that has nothing new may say nothing for a long time.
	settled := time.After(healthyAfter)
	for {
		var err error
		select {
		case err = <-broken:
		case <-settled:
			c.noteConnected()
		case r := <-responses:
			err = c.answer(str, r)
		case <-c.wake:
			err = c.update(str)
		}
		if err != nil {
			return err
		}
	}
}

// begin subscribes to every type. The node is named once, as xDS has it.
func (c *Client) begin(str stream) error {
	for i, s := range c.subscriptions {
		c.mu.Lock()
		r := s.initial()
		c.mu.Unlock()
		if i == 0 {
			r.Node = c.config.Node
		}
		if err := send(str, r); err != nil {
			return err
		}
	}
	return nil
}

// answer hands a response over, then acknowledges it, naming what was rejected.
// An ACK never changes a subscription: istiod would ignore the change.
func (c *Client) answer(str stream, r *discoveryv3.DeltaDiscoveryResponse) error {
	c.noteConnected()
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	s := c.find(r.GetTypeUrl())
	if s == nil {
		c.config.Logger.Warn("control plane sent a type that was not asked for", "type", clean(r.GetTypeUrl(), maxReason))
		return send(str, request)
	}
	nack := c.apply(s, r)
	c.noteAnswer(s, nack)
	if nack != "" {
		c.config.Logger.Warn("rejected resources", "type", s.URL, "reason", nack)
		request.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: nack}
	}
	return send(str, request)
}

func (c *Client) noteConnected() {
	c.note(func(s *Status) {
		if !s.Connected {
			s.Connected, s.Since, s.Error = true, time.Now(), ""
		}
	})
}

// apply answers what to complain of; empty means that all was accepted.
func (c *Client) apply(s *subscription, r *discoveryv3.DeltaDiscoveryResponse) string {
	d, err := s.read(r, c.config.MaxResources)
	if err != nil {
		return clean(fmt.Sprintf("nothing was applied: %v", err), maxNACK)
	}
	var rejected []Rejection
	if first := !s.delivered; first || len(d.updated)+len(d.removed) > 0 {
		rejected = c.config.Handler.Apply(s.URL, d.updated, d.removed, first)
	}
	rejected = merge(rejected, d.unusable)
	s.keep(d, rejected)
	return nackText(rejected)
}

// merge adds the unusable resources that the handler did not reject itself.
func merge(rejected, unusable []Rejection) []Rejection {
	named := make(map[string]bool, len(rejected))
	for _, r := range rejected {
		named[r.Name] = true
	}
	for _, u := range unusable {
		if !named[u.Name] {
			rejected = append(rejected, u)
		}
	}
	return rejected
}

// update tells the control plane how the wanted names have changed. Names to be
// asked for again go in a request of their own, after the one that ends them.
func (c *Client) update(str stream) error {
	for _, s := range c.subscriptions {
		if s.wildcard() {
			continue
		}
		c.mu.Lock()
		change, again := s.changes()
		c.mu.Unlock()
		for _, r := range []*discoveryv3.DeltaDiscoveryRequest{change, again} {
			if len(r.GetResourceNamesSubscribe())+len(r.GetResourceNamesUnsubscribe()) == 0 {
				continue
			}
			if err := send(str, r); err != nil {
				return err
			}
		}
	}
	return nil
}
