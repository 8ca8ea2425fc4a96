package xds

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestNewRefuses(t *testing.T) {
	nodeName := &structpb.Struct{Fields: map[string]*structpb.Value{"NODE_NAME": structpb.NewStringValue("n1")}}
	for name, change := range map[string]func(*Config){
		"no target":                   func(c *Config) { c.Target = "" },
		"no credentials":              func(c *Config) { c.Credentials = nil },
		"no handler":                  func(c *Config) { c.Handler = nil },
		"no node":                     func(c *Config) { c.Node = nil },
		"no types":                    func(c *Config) { c.Types = nil },
		"a type twice":                func(c *Config) { c.Types = []Type{{URL: typeA}, {URL: typeA}} },
		"a type without URL":          func(c *Config) { c.Types = []Type{{}} },
		"negative bound":              func(c *Config) { c.MaxMessage = -1 },
		"node type that kills istiod": func(c *Config) { c.Node = &corev3.Node{Id: "agentgateway~10.0.0.1~p.ns~ns.svc.cluster.local"} },
		"bare agentgateway":           func(c *Config) { c.Node = &corev3.Node{Id: "agentgateway"} },
		"NODE_NAME on demand": func(c *Config) {
			c.Node = &corev3.Node{Id: "ztunnel~1.1.1.1~a.b~c", Metadata: nodeName}
			c.Types = []Type{{URL: typeA, OnDemand: true}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(&book{}, Type{URL: typeA})
			change(&c)
			if _, err := New(c); err == nil {
				t.Fatal("accepted")
			}
		})
	}
	c := config(&book{}, Type{URL: typeA})
	c.Node.Metadata = nodeName
	if _, err := New(c); err != nil {
		t.Fatalf("NODE_NAME is fine without on-demand types: %v", err)
	}
}

func TestBackoffStaysWithinItsBoundsAndIsJittered(t *testing.T) {
	gaps := func() (gaps []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			p := newPlane()
			var last time.Time
			p.accept = func() error {
				if !last.IsZero() {
					gaps = append(gaps, time.Since(last))
				}
				last = time.Now()
				return errors.New("refused")
			}
			client, stop := start(t, p, config(&book{}, Type{URL: typeA}))
			time.Sleep(time.Hour)
			if s := client.Status(); s.Connected || s.Attempts != len(gaps)+1 || s.Stale(time.Now()) != time.Hour {
				t.Errorf("status %+v after %d attempts", s, len(gaps)+1)
			}
			stop()
		})
		return gaps
	}
	one, other := gaps(), gaps()
	if slices.Equal(one[:5], other[:5]) {
		t.Errorf("two clients wait alike: %v", one[:5])
	}
	if lo, hi := slices.Min(one), slices.Max(one); lo < backoffMin || hi > backoffMax || hi < backoffMax/2 {
		t.Errorf("waits from %v to %v", lo, hi)
	}
	if n := len(one); n > 1000 {
		t.Errorf("%d attempts in an hour", n)
	}
}

func TestCleanCloseOfAHealthyStreamReconnectsAtOnce(t *testing.T) {
	goaway := status.Error(codes.Unavailable, `closing transport due to: connection error: desc = "error reading from server: EOF", received prior goaway: code: NO_ERROR, debug data: "max_age"`)
	for _, tt := range []struct {
		name  string
		lived time.Duration
		err   error
		once  bool
	}{
		{"closed after half an hour", 30 * time.Minute, io.EOF, true},
		{"goaway after half an hour", 30 * time.Minute, goaway, true},
		{"broken after half an hour", 30 * time.Minute, status.Error(codes.Unavailable, "reset"), false},
		{"closed at once", 0, io.EOF, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlane()
				refusals := 20
				p.accept = func() error {
					if refusals--; refusals >= 0 {
						return errors.New("refused")
					}
					return nil
				}
				client, stop := start(t, p, config(&book{}, Type{URL: typeA}))
				s := <-p.streams
				<-s.requests
				s.say("1", typeA, nil)
				synctest.Wait()
				if !client.Status().Connected {
					t.Error("not connected")
				}
				time.Sleep(tt.lived)
				ended := time.Now()
				s.broken <- tt.err
				<-p.streams
				gap := time.Since(ended)
				if tt.once && gap != 0 || !tt.once && gap < backoffMin || tt.lived > 0 && gap > 3*backoffMin {
					t.Errorf("came back after %v", gap)
				}
				stop()
			})
		})
	}
}

func TestQuietStreamCountsAsConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		client, stop := start(t, p, config(&book{}, Type{URL: typeA}))
		defer stop()
		<-p.streams
		synctest.Wait()
		if client.Status().Connected {
			t.Error("connected before anything came or time has passed")
		}
		time.Sleep(healthyAfter)
		synctest.Wait()
		if !client.Status().Connected {
			t.Error("not connected")
		}
	})
}

func TestGoodResourcesAreAppliedAndBadOnesNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		client, stop := start(t, p, config(b, Type{URL: typeA}))
		defer stop()
		s := <-p.streams
		first := <-s.requests
		if first.GetNode().GetId() == "" || first.GetTypeUrl() != typeA || len(first.GetResourceNamesSubscribe()) != 0 {
			t.Errorf("first request %v", first)
		}
		ack := s.say("n1", typeA, nil, res("good", "1"), res("bad1", "1"), res("bad2", "1"))
		if ack.GetResponseNonce() != "n1" || ack.GetNode() != nil || ack.GetErrorDetail().GetMessage() != "bad1: it is bad; bad2: it is bad" {
			t.Errorf("NACK %v", ack)
		}
		if !maps.Equal(b.content, map[string]string{"good": "1"}) || !b.last().first {
			t.Errorf("content %v, %+v", b.content, b.last())
		}
		if ts := client.Status().Types[0]; ts.LastNACK.IsZero() || !ts.LastACK.IsZero() || ts.NACK == "" || !ts.Synced {
			t.Errorf("status %+v", ts)
		}
		ack = s.say("n2", typeA, nil, res("bad1", "good"))
		if ack.GetErrorDetail() != nil || b.content["bad1"] != "good" || b.last().first {
			t.Errorf("ACK %v, %+v", ack, b.last())
		}
		if ts := client.Status().Types[0]; ts.LastACK.IsZero() || ts.NACK != "" || ts.Resources != 3 {
			t.Errorf("status %+v", ts)
		}
	})
}

func TestReconnectEchoesAcceptedVersionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		_, stop := start(t, p, config(b, Type{URL: typeA}, Type{URL: typeB}))
		defer stop()
		s := <-p.streams
		<-s.requests
		<-s.requests
		s.say("1", typeA, nil, res("a", "1"), res("b", "1"), res("bad-now", "good"), res("plain", ""))
		s.say("2", typeA, []string{"b"}, res("bad-now", "2"), res("bad-new", "1"))
		calls := len(b.calls)
		s.broken <- errors.New("gone")
		s = <-p.streams
		if len(b.calls) != calls {
			t.Errorf("the handler was called because the stream ended: %+v", b.last())
		}
		again := <-s.requests
		if !maps.Equal(again.GetInitialResourceVersions(), map[string]string{"a": "1"}) || again.GetNode() == nil {
			t.Errorf("request %v", again)
		}
		if other := <-s.requests; other.GetNode() != nil || other.GetTypeUrl() != typeB {
			t.Errorf("request %v", other)
		}
		// "plain" has no version, and its removal while we were away cannot be told by name;
		// "bad-now" was deleted too, whose rejected version we did not echo.
		s.say("1", typeA, nil, res("bad-new", "1"), res("c", "1"))
		if want := []string{"bad-now", "plain"}; !slices.Equal(b.last().removed, want) || b.last().first {
			t.Errorf("removed %v, want %v", b.last().removed, want)
		}
		s.say("2", typeA, nil, res("c", "2"))
		if len(b.last().removed) != 0 || b.content["a"] != "1" {
			t.Errorf("the second response is not complete: %+v", b.last())
		}
	})
}

func TestEmptyFirstResponseIsHandedOverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		_, stop := start(t, p, config(b, Type{URL: typeA}))
		defer stop()
		s := <-p.streams
		<-s.requests
		s.say("1", typeA, nil)
		s.say("2", typeA, nil)
		if len(b.calls) != 1 || !b.calls[0].first {
			t.Errorf("calls %+v", b.calls)
		}
	})
}

func TestAbsentNameIsRemovedWhereResponsesAreComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		_, stop := start(t, p, config(b, Type{URL: typeA, Names: []string{"x", "y"}, Complete: true, Repeated: true}))
		defer stop()
		s := <-p.streams
		if r := <-s.requests; !slices.Equal(r.GetResourceNamesSubscribe(), []string{"x", "y"}) {
			t.Errorf("request %v", r)
		}
		if ack := s.say("1", typeA, nil, res("x", ""), res("x", ""), res("y", "")); ack.GetErrorDetail() != nil || len(ack.GetResourceNamesSubscribe()) != 0 {
			t.Errorf("ACK %v", ack)
		}
		if want := []string{"x", "x", "y"}; !slices.Equal(b.last().updated, want) {
			t.Errorf("updated %v", b.last().updated)
		}
		s.say("2", typeA, nil, res("y", ""))
		if !slices.Equal(b.last().removed, []string{"x"}) {
			t.Errorf("removed %v", b.last().removed)
		}
	})
}

func TestGarbageIsRejectedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		c := config(b, Type{URL: typeA})
		c.MaxResources = 3
		_, stop := start(t, p, c)
		defer stop()
		s := <-p.streams
		<-s.requests
		wrong := res("wrong", "1")
		wrong.Resource.TypeUrl = "type.googleapis.com/z"
		for _, tt := range []struct {
			name      string
			removed   []string
			resources []*discoveryv3.Resource
			nack      string
		}{
			{"doubled", nil, []*discoveryv3.Resource{res("d", "1"), res("ok", "1"), res("d", "2")}, "d: named more than once"},
			{"no name", nil, []*discoveryv3.Resource{res("", "1")}, ": has no name"},
			{"no body", nil, []*discoveryv3.Resource{{Name: "nb"}}, "nb: has no body"},
			{"other type", []string{"nb"}, []*discoveryv3.Resource{wrong}, `wrong: body is a "type.googleapis.com/z"`},
			{"too many", nil, []*discoveryv3.Resource{res("e", "1"), res("f", "1")}, "nothing was applied: 5 resources would be held, at most 3 are"},
		} {
			calls := len(b.calls)
			if ack := s.say("n", typeA, tt.removed, tt.resources...); !strings.HasPrefix(ack.GetErrorDetail().GetMessage(), tt.nack) {
				t.Errorf("%s: NACK %q, want %q", tt.name, ack.GetErrorDetail().GetMessage(), tt.nack)
			}
			if tt.name == "too many" && len(b.calls) != calls {
				t.Error("applied beyond the bound")
			}
		}
		if !maps.Equal(b.content, map[string]string{"ok": "1"}) {
			t.Errorf("content %v", b.content)
		}
		if ack := s.say("n", "type.googleapis.com/unknown", nil, res("q", "1")); ack.GetErrorDetail() != nil || ack.GetTypeUrl() != "type.googleapis.com/unknown" {
			t.Errorf("ACK of an unknown type: %v", ack)
		}
		s.say("n", typeA, []string{"ok"}, res("ok", "2"))
		if b.content["ok"] != "2" {
			t.Error("updated and removed at once did not stay")
		}
	})
}

func TestOnDemandSubscribesApartFromACKs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{}
		c := config(b, Type{URL: typeA, OnDemand: true}, Type{URL: typeB})
		c.MaxSubscribed = 2
		client, stop := start(t, p, c)
		defer stop()
		s := <-p.streams
		nothing := <-s.requests
		if !slices.Equal(nothing.GetResourceNamesSubscribe(), []string{"*"}) || !slices.Equal(nothing.GetResourceNamesUnsubscribe(), []string{"*"}) {
			t.Errorf("request %v", nothing)
		}
		<-s.requests
		s.say("1", typeA, nil)
		if err := client.Subscribe(typeA, "/10.0.0.1", "/10.9.9.9"); err != nil {
			t.Error(err)
		}
		ask := <-s.requests
		if ask.GetResponseNonce() != "" || ask.GetNode() != nil || !slices.Equal(ask.GetResourceNamesSubscribe(), []string{"/10.0.0.1", "/10.9.9.9"}) {
			t.Errorf("request %v", ask)
		}
		aliased := res("uid1", "1")
		aliased.Aliases = []string{"/10.0.0.1"}
		s.say("2", typeA, []string{"/10.9.9.9"}, aliased)
		if !slices.Equal(b.last().removed, []string{"/10.9.9.9"}) || !slices.Equal(b.last().updated, []string{"uid1"}) {
			t.Errorf("got %+v", b.last())
		}
		if err := client.Subscribe(typeA, "third"); !errors.Is(err, ErrTooManyNames) {
			t.Errorf("third name: %v", err)
		}
		if err := client.Unsubscribe(typeA, "/10.9.9.9"); err != nil {
			t.Error(err)
		}
		// istiod would call all other names removed if nothing were asked for.
		if r := <-s.requests; !slices.Equal(r.GetResourceNamesUnsubscribe(), []string{"/10.9.9.9"}) || !slices.Equal(r.GetResourceNamesSubscribe(), []string{noName}) {
			t.Errorf("request %v", r)
		}
		calls := len(b.calls)
		if s.say("3", typeA, []string{noName}); len(b.calls) != calls {
			t.Errorf("the handler was told of what it did not ask for: %+v", b.last())
		}
		if err := client.Subscribe(typeB, "x"); err == nil {
			t.Error("a wildcard type took a name")
		}
		s.broken <- errors.New("gone")
		s = <-p.streams
		again := <-s.requests
		if !slices.Equal(again.GetResourceNamesSubscribe(), []string{"*", "/10.0.0.1"}) || again.GetInitialResourceVersions()["uid1"] != "1" {
			t.Errorf("request %v", again)
		}
	})
}

func TestAskingAgainEndsTheSubscriptionFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		client, stop := start(t, p, config(&book{}, Type{URL: typeA, OnDemand: true, Names: []string{"self"}}))
		defer stop()
		s := <-p.streams
		if first := <-s.requests; !slices.Equal(first.GetResourceNamesSubscribe(), []string{"*", "self"}) {
			t.Errorf("request %v", first)
		}
		if err := errors.Join(client.Subscribe(typeA, "new"), client.Again(typeA, "self", "new", "never wanted")); err != nil {
			t.Fatal(err)
		}
		end, begin := <-s.requests, <-s.requests
		if !slices.Equal(end.GetResourceNamesUnsubscribe(), []string{"self"}) || !slices.Equal(end.GetResourceNamesSubscribe(), []string{"new"}) {
			t.Errorf("request %v", end)
		}
		if !slices.Equal(begin.GetResourceNamesSubscribe(), []string{"self"}) || len(begin.GetResourceNamesUnsubscribe()) != 0 {
			t.Errorf("request %v", begin)
		}
		synctest.Wait()
		if len(s.requests) != 0 {
			t.Errorf("another request: %v", <-s.requests)
		}
	})
}

func TestDroppedResourcesAreNotClaimedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		client, stop := start(t, p, config(&book{}, Type{URL: typeA, OnDemand: true, Names: []string{"service"}}))
		defer stop()
		s := <-p.streams
		<-s.requests
		s.say("1", typeA, nil, res("service", "1"), res("pod-1", "1"), res("pod-2", "1"), res("pod-3", ""))
		if err := client.Unsubscribe(typeA, "pod-1"); err != nil { // it came unasked, with the service
			t.Fatal(err)
		}
		if r := <-s.requests; !slices.Equal(r.GetResourceNamesUnsubscribe(), []string{"pod-1"}) {
			t.Errorf("request %v", r)
		}
		// Dropped, and wanted again before the control plane was told of either.
		if err := errors.Join(client.Unsubscribe(typeA, "pod-2"), client.Subscribe(typeA, "pod-2")); err != nil {
			t.Fatal(err)
		}
		<-s.requests
		s.broken <- errors.New("gone")
		s = <-p.streams
		again := <-s.requests
		if !maps.Equal(again.GetInitialResourceVersions(), map[string]string{"service": "1"}) {
			t.Errorf("claimed %v", again.GetInitialResourceVersions())
		}
		// pod-3 is held without a version: whether it is still there must be asked.
		if !slices.Equal(again.GetResourceNamesSubscribe(), []string{"*", "pod-2", "service", "pod-3"}) {
			t.Errorf("asked for %v", again.GetResourceNamesSubscribe())
		}
	})
}

func TestPanicOfTheHandlerEndsTheStreamOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newPlane(), &book{panics: true}
		client, stop := start(t, p, config(b, Type{URL: typeA}))
		defer stop()
		s := <-p.streams
		<-s.requests
		s.answers <- &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Resources: []*discoveryv3.Resource{res("a", "1")}}
		s = <-p.streams
		if got := client.Status(); got.Connected || !strings.Contains(got.Error, "panicked") {
			t.Errorf("status %+v", got)
		}
		b.panics = false
		<-s.requests
		s.say("1", typeA, nil, res("a", "1"))
		if !b.last().first || b.content["a"] != "1" {
			t.Errorf("got %+v", b.last())
		}
	})
}

func TestInitialVersionsFitIntoOneRequest(t *testing.T) {
	s := newSubscription(Type{URL: typeA})
	for i := range 100_000 {
		s.held[fmt.Sprintf("Kubernetes//Pod/namespace/workload-with-a-long-name-%d", i)] = "0123456789abcdef"
	}
	r := s.initial()
	if len(r.GetInitialResourceVersions())+len(s.unclaimed) != len(s.held) || len(s.unclaimed) == 0 {
		t.Fatalf("%d told, %d not, of %d", len(r.GetInitialResourceVersions()), len(s.unclaimed), len(s.held))
	}
	if n := protoSize(r); n > 4<<20 {
		t.Fatalf("request of %d bytes", n)
	}
}

func TestNACKTextIsBoundedAndPrintable(t *testing.T) {
	var many []Rejection
	for i := range 10_000 {
		many = append(many, Rejection{fmt.Sprintf("name-%d\n\x1b[31m\xff", i), errors.New(strings.Repeat("long ", 1000))})
	}
	text := nackText(many)
	if len(text) > maxNACK || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\x1b") || !strings.Contains(text, "more") {
		t.Fatalf("%d bytes: %q", len(text), text)
	}
	if text := nackText(many[:1]); !strings.HasPrefix(text, "name-0") {
		t.Fatalf("got %q", text)
	}
}
