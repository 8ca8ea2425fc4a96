package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/process"
)

// A sample is one round of one path.
type sample struct {
	p50, p99 time.Duration
	between  time.Duration // CPU of what stands between, per call
	all      time.Duration // CPU of client, server and what stands between, per call
}

func (b *bed) measure(ctx context.Context, out io.Writer, callers, calls, rounds int) error {
	samples := make([][]sample, len(b.paths))
	for range rounds {
		for i, p := range b.paths {
			s, err := b.round(ctx, p, callers, calls)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	fmt.Fprintf(out, "\ntools/call of search_issues, %d at a time, %d calls in each of %d rounds, medians\n", callers, calls, rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "path\tp50\tp99\tCPU/call\tof it between\tp50 / direct\tCPU / direct\tCPU between / relay pair")
	direct, relayed := median(samples[0]), median(samples[1])
	for i, p := range b.paths {
		m := median(samples[i])
		fmt.Fprintf(w, "%s\t%v\t%v\t%v\t%v\t%s\t%s\t%s\n", p.name, m.p50.Round(time.Microsecond), m.p99.Round(time.Microsecond),
			m.all.Round(time.Microsecond), m.between.Round(time.Microsecond),
			ratio(m.p50, direct.p50), ratio(m.all, direct.all), ratio(m.between, relayed.between))
	}
	return w.Flush()
}

func ratio(a, b time.Duration) string {
	if b == 0 || a == 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(a)/float64(b), 'f', 2, 64)
}

func median(samples []sample) sample {
	pick := func(value func(sample) time.Duration) time.Duration {
		all := make([]time.Duration, len(samples))
		for i, s := range samples {
			all[i] = value(s)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return sample{
		p50:     pick(func(s sample) time.Duration { return s.p50 }),
		p99:     pick(func(s sample) time.Duration { return s.p99 }),
		between: pick(func(s sample) time.Duration { return s.between }),
		all:     pick(func(s sample) time.Duration { return s.all }),
	}
}

// round makes the calls of one round, each caller in a session of its own.
func (b *bed) round(ctx context.Context, p path, callers, calls int) (sample, error) {
	sessions := make([]*session, callers)
	for i := range sessions {
		s, err := open(ctx, p.url)
		if err != nil {
			return sample{}, err
		}
		defer s.close()
		sessions[i] = s
	}
	pids := append([]int{os.Getpid(), b.endpoints.Processes["mcp-server"]}, p.pids...)
	before, err := meters(pids...)
	if err != nil {
		return sample{}, err
	}
	took, err := callAll(ctx, sessions, calls)
	if err != nil {
		return sample{}, err
	}
	after, err := meters(pids...)
	if err != nil {
		return sample{}, err
	}
	slices.Sort(took)
	n := time.Duration(len(took))
	const ends = 2 // client and server, before what stands between
	return sample{took[len(took)/2], took[len(took)*99/100], spent(before[ends:], after[ends:]) / n, spent(before, after) / n}, nil
}

func callAll(ctx context.Context, sessions []*session, calls int) ([]time.Duration, error) {
	var wg sync.WaitGroup
	took := make([][]time.Duration, len(sessions))
	errs := make([]error, len(sessions))
	for i, s := range sessions {
		wg.Go(func() {
			for range max(1, calls/len(sessions)) {
				start := time.Now()
				if errs[i] = s.call(ctx); errs[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return slices.Concat(took...), nil
}

// meters are what processes have spent.
func meters(pids ...int) ([]process.Meter, error) {
	all := make([]process.Meter, len(pids))
	for i, pid := range pids {
		var err error
		if all[i], err = process.Read(pid); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// spent is the sum of what processes have spent between two readings.
func spent(before, after []process.Meter) time.Duration {
	var total time.Duration
	for i := range after {
		total += after[i].Since(before[i]).Total()
	}
	return total
}

// A session is an MCP session on a connection of its own, without an SDK, so
// that the client costs little.
type session struct {
	url, id string
	client  *http.Client
}

const protocol = "2025-11-25"

func open(ctx context.Context, url string) (*session, error) {
	s := &session{url: url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 30 * time.Second}}
	_, err := s.post(ctx, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+protocol+`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	if err != nil {
		return nil, err
	}
	_, err = s.post(ctx, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return s, err
}

func (s *session) close() { s.client.CloseIdleConnections() }

func (s *session) call(ctx context.Context) error {
	answer, err := s.post(ctx, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search_issues","arguments":{"query":"broken link"}}}`)
	if err == nil && !bytes.Contains(answer, []byte("issues match")) {
		err = fmt.Errorf("answer is %q", answer)
	}
	return err
}

func (s *session) post(ctx context.Context, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if s.id != "" {
		req.Header.Set("Mcp-Session-Id", s.id)
		req.Header.Set("Mcp-Protocol-Version", protocol)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if id := res.Header.Get("Mcp-Session-Id"); id != "" {
		s.id = id
	}
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("status %s: %s", res.Status, answer)
	}
	return answer, err
}
