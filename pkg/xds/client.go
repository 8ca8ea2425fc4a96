package xds

import (
	"context"
	"fmt"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// A Client keeps a stream to the control plane. What the handler has been given
// outlives every stream: nothing is taken back because the control plane is away.
type Client struct {
	config        Config
	open          func(ctx context.Context) (stream, func(), error)
	subscriptions []*subscription
	wake          chan struct{} // holds one token when wanted names have changed

	mu     sync.Mutex // guards what follows and every subscription's wanted
	status Status
}

// A stream is the client's end of DeltaAggregatedResources.
type stream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

// New checks the configuration. Nothing happens until Run.
func New(c Config) (*Client, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	client := &Client{config: c, wake: make(chan struct{}, 1), status: Status{Target: c.Target}}
	client.open = client.dial
	for _, t := range c.Types {
		s := newSubscription(t)
		client.subscriptions = append(client.subscriptions, s)
		client.status.Types = append(client.status.Types, TypeStatus{URL: t.URL})
	}
	return client, nil
}

// Run connects, and connects again, until ctx ends; then it returns nil. It
// must be called only once.
func (c *Client) Run(ctx context.Context) error {
	c.note(func(s *Status) { s.Since = time.Now() })
	var wait pauses
	for {
		end := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if advice := c.advice(end.err); advice != "" {
			end.err = fmt.Errorf("%w: %s", end.err, advice)
		}
		pause := time.Duration(0)
		if end.healthy() {
			wait.reset()
		}
		if !end.healthy() || !end.clean() {
			pause = wait.next()
		}
		c.noteEnd(end)
		c.config.Logger.Warn("control plane stream ended", "target", c.config.Target,
			"error", end.err, "lived", end.lived, "again_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (c *Client) advice(err error) string {
	if c.config.Advise == nil {
		return ""
	}
	return c.config.Advise(err)
}

// received counts a response, if it is of a type that we asked for.
func (c *Client) received(typeURL string, bytes int) {
	if c.config.Received != nil && c.find(typeURL) != nil {
		c.config.Received(typeURL, bytes)
	}
}

func (c *Client) noteEnd(end ending) {
	if c.config.Ended != nil {
		c.config.Ended(end.kind())
	}
	c.note(func(s *Status) {
		if s.Connected {
			s.Connected, s.Since = false, time.Now()
		}
		s.Attempts++
		if end.healthy() {
			s.Attempts = 0
		}
		s.Error = clean(end.err.Error(), 512)
	})
}

// Subscribe asks for more names of an on-demand or named type. The answer comes
// to the handler: updated, or removed if there is no such thing.
func (c *Client) Subscribe(typeURL string, names ...string) error {
	return c.want(typeURL, func(s *subscription) error {
		added := 0
		for _, name := range names {
			if _, known := s.wanted[name]; !known {
				added++
			}
		}
		if len(s.wanted)+added > c.config.MaxSubscribed {
			return fmt.Errorf("subscribe to %d names of %s: %w", len(names), typeURL, ErrTooManyNames)
		}
		for _, name := range names {
			if _, known := s.wanted[name]; !known {
				s.want(name)
			}
		}
		return nil
	})
}

// Again asks anew for names that are subscribed to, by ending and beginning the
// subscription. A control plane may know of more by then and not have said so:
// istiod tells an on-demand client of no new pods of a service.
func (c *Client) Again(typeURL string, names ...string) error {
	return c.want(typeURL, func(s *subscription) error {
		for _, name := range names {
			if _, known := s.wanted[name]; known {
				s.want(name)
			}
		}
		return nil
	})
}

// Unsubscribe tells that names are not needed any more. They may also be names
// of resources that came with others, unasked. The handler is not called for
// that, and must have forgotten the resources of these names.
func (c *Client) Unsubscribe(typeURL string, names ...string) error {
	return c.want(typeURL, func(s *subscription) error {
		for _, name := range names {
			delete(s.wanted, name)
			s.changed[name] = true
		}
		return nil
	})
}

func (c *Client) want(typeURL string, change func(*subscription) error) error {
	s := c.find(typeURL)
	if s == nil || s.wildcard() {
		return fmt.Errorf("xds: type %s takes no names", typeURL)
	}
	c.mu.Lock()
	err := change(s)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
	return err
}

func (c *Client) find(typeURL string) *subscription {
	for _, s := range c.subscriptions {
		if s.URL == typeURL {
			return s
		}
	}
	return nil
}

// dial makes a new connection for every stream: names are resolved, credentials
// read and back-off counted in one place, here.
func (c *Client) dial(ctx context.Context) (stream, func(), error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(c.config.Credentials),
		grpc.WithNoProxy(), // HTTPS_PROXY is the agent's, not ours
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// gRPC's own attempts would add to ours: it is to make one.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: c.config.ConnectTimeout,
			Backoff: backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if c.config.Dial != nil {
		options = append(options, grpc.WithContextDialer(c.config.Dial))
	}
	conn, err := grpc.NewClient(c.config.Target, options...)
	if err != nil {
		return nil, nil, err
	}
	calls := []grpc.CallOption{
		grpc.MaxCallRecvMsgSize(c.config.MaxMessage),
		grpc.MaxCallSendMsgSize(c.config.MaxMessage),
		grpc.ForceCodecV2(newCodec(c.config.MaxResources, c.received)),
	}
	if c.config.PerRPC != nil {
		calls = append(calls, grpc.PerRPCCredentials(c.config.PerRPC))
	}
	if len(c.config.Metadata) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, c.config.Metadata)
	}
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, calls...)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return s, func() { conn.Close() }, nil
}
