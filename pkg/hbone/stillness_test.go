package hbone

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/attack"
)

// trickle answers a byte every half minute once its peer has ended.
func trickle(ctx context.Context, in *Incoming) {
	t, err := in.Accept(Header{})
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{t})
	for ctx.Err() == nil {
		if _, err := t.Write([]byte("x")); err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
		}
	}
}

// deaf ends its own direction and takes what comes.
func deaf(_ context.Context, in *Incoming) {
	if t, err := in.Accept(Header{}); err == nil {
		_ = t.CloseWrite()
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{t})
	}
}

func TestATunnelThatNeitherGetsOnNorEndsIsReset(t *testing.T) {
	limits := Limits{HalfCloseTimeout: 10 * time.Minute, StallTimeout: 4 * time.Minute}
	end := func(c *attack.Client) { _ = c.Framer.WriteData(c.Connect(), true, nil) }
	shut := func(c *attack.Client) {
		_ = c.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.Connect()
	}
	for name, c := range map[string]struct {
		app    Handler
		begin  func(*attack.Client)
		repeat func(*attack.Client) // every five seconds
		reset  time.Duration        // 0 is never
	}{
		"open and silent":               {app: apps[attack.Silent], begin: func(c *attack.Client) { c.Connect() }},
		"half closed and silent":        {app: apps[attack.Silent], begin: end, reset: limits.HalfCloseTimeout},
		"half closed, and bytes go on":  {app: trickle, begin: end},
		"half closed by us, bytes come": {app: deaf, begin: func(c *attack.Client) { c.Connect() }, repeat: func(c *attack.Client) { _ = c.Framer.WriteData(c.Last(), false, []byte("x")) }},
		"no window":                     {app: apps[attack.Firehose], begin: shut, reset: limits.StallTimeout},
		"little by little": {app: apps[attack.Firehose], begin: shut, repeat: func(c *attack.Client) {
			_ = c.Framer.WriteWindowUpdate(c.Last(), 300)
			_ = c.Framer.WriteWindowUpdate(0, 300)
		}},
		"no window of the connection":    {app: apps[attack.Firehose], begin: func(c *attack.Client) { c.Connect() }, reset: limits.StallTimeout},
		"no window, and nothing to send": {app: apps[attack.Silent], begin: shut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				peer := besiege(t, c.app, limits).connect(true)
				c.begin(peer)
				start, reset := time.Now(), time.Duration(0)
				for reset == 0 && time.Since(start) < 30*time.Minute {
					if c.repeat != nil {
						c.repeat(peer)
					}
					_ = peer.Framer.WritePing(true, pingKeep) // it is alive
					if err := peer.Flush(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					if peer.Frames(http2.FrameRSTStream) > 0 {
						reset = time.Since(start)
					}
				}
				if c.reset == 0 && reset != 0 || c.reset != 0 && (reset < c.reset || reset > c.reset+25*time.Second) {
					t.Errorf("reset after %v, want %v", reset, c.reset)
				}
				if peer.Frames(http2.FrameGoAway) != 0 {
					t.Error("the connection was ended, not the tunnel")
				}
			})
		})
	}
}
