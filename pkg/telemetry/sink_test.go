package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A gate is a writer that waits until it is opened.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Buffer.Write(p)
}

func testSink(w interface{ Write([]byte) (int, error) }, block bool) *sink {
	return startSink(sinkConfig{Name: "test", Writer: w, Queue: 8, Block: block,
		Dropped: counter("dropped", "x", "log", "reason"), Logger: slog.New(slog.DiscardHandler)})
}

func dropped(s *sink, reason string) float64 {
	return valueOf(s.Dropped.WithLabelValues("test", reason))
}

func valueOf(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return -1
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func TestFullQueueDropsCountsAndNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := testSink(g, false)
		s.add([]byte("one\n"))
		synctest.Wait() // the writer holds "one" or waits for more
		for range 5 {
			s.add([]byte("two\n"))
		}
		close(g.open)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if got := dropped(s, droppedFull) + float64(strings.Count(g.String(), "\n")); got != 6 {
			t.Errorf("%v lines written or counted as dropped, want 6", got)
		}
		if dropped(s, droppedFull) == 0 {
			t.Error("nothing was dropped")
		}
	})
}

func TestBlockingSinkLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := testSink(g, true)
		var producers sync.WaitGroup
		for range 10 {
			producers.Go(func() {
				for range 10 {
					s.add([]byte("line\n"))
				}
			})
		}
		synctest.Wait() // all producers are held up
		close(g.open)
		producers.Wait()
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(g.String(), "line\n"); got != 100 {
			t.Errorf("%d lines, want 100", got)
		}
	})
}

func TestCloseFreesBlockedProducersAndCountsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := testSink(g, true)
		var producers sync.WaitGroup
		for range 4 {
			producers.Go(func() { s.add([]byte("12345678\n")) })
		}
		synctest.Wait()
		go func() { close(g.open) }()
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		producers.Wait()
		s.add([]byte("late\n"))
		if got := dropped(s, droppedClosed) + float64(strings.Count(g.String(), "\n")); got != 5 || dropped(s, droppedClosed) == 0 {
			t.Errorf("%v lines written or counted, want 5; %v after close", got, dropped(s, droppedClosed))
		}
	})
}

func TestCloseGivesUpOnAStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		s := testSink(g, false)
		s.add([]byte("one\n"))
		if err := s.close(); !errors.Is(err, ErrStuck) {
			t.Errorf("%v, want ErrStuck", err)
		}
		close(g.open)
		<-s.done
	})
}

// A flaky writer fails once, after some bytes.
type flaky struct {
	bytes.Buffer
	failAfter int
	failed    bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.failed {
		return f.Buffer.Write(p)
	}
	f.failed = true
	n := min(f.failAfter, len(p))
	f.Buffer.Write(p[:n])
	return n, errors.New("disk full")
}

func TestTornLineDoesNotSpoilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{failAfter: 6}
		s := testSink(f, true)
		s.add([]byte("aaa\n"))
		s.add([]byte("bbb\n"))
		time.Sleep(flushDelay) // of the bubble's clock: the first batch is tried
		synctest.Wait()
		s.add([]byte("ccc\n"))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if got, want := f.String(), "aaa\nbb\nccc\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := dropped(s, droppedWrite); got != 1 {
			t.Errorf("%v counted, want 1", got)
		}
	})
}

func TestLossIsLoggedButNotOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := startSink(sinkConfig{Name: "test", Writer: &flaky{}, Queue: 1 << 20, Dropped: counter("d", "x", "log", "reason"),
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s.add([]byte("lost\n"))
		if err := s.close(); err == nil {
			t.Error("the last write failed and close said nothing")
		}
		if got := strings.Count(log.String(), "records were dropped"); got != 1 || !strings.Contains(log.String(), "disk full") {
			t.Errorf("log: %s", log.String())
		}
	})
}
