package meshtest_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest"
	"github.com/outrigger-mesh/outrigger/pkg/sample"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// With no agent policy for the port, bytes pass uninspected: 64 MB up and down
// at once, and each end's half-close, arrive exactly.
func Test64MBBothWaysByteExact(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{})
	const size = 64 << 20
	ln := m.ListenApp()
	defer ln.Close()
	sums := make(chan [32]byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{2}), size))
			c.(*net.TCPConn).CloseWrite()
			sent <- err
		}()
		h := sha256.New()
		io.Copy(h, c)
		sums <- [32]byte(h.Sum(nil))
		<-sent
	}()
	c, err := net.Dial("tcp", m.Agent)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	got := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		io.Copy(h, c)
		got <- [32]byte(h.Sum(nil))
	}()
	if _, err := io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{1}), size)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	if up := <-sums; up != sum(1, size) {
		t.Error("what the server got is not what the client sent")
	}
	if down := <-got; down != sum(2, size) {
		t.Error("what the client got is not what the server sent")
	}
}

func sum(seed byte, size int64) [32]byte {
	h := sha256.New()
	io.Copy(h, io.LimitReader(rand.NewChaCha8([32]byte{seed}), size))
	return [32]byte(h.Sum(nil))
}

// A long event stream passes uninspected byte for byte, each event when it is sent.
func TestALongEventStreamByteExact(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{})
	const events = 20_000
	ln := m.ListenApp()
	next := make(chan struct{}, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range events {
			if i < 100 { // the first ones only after the one before has arrived: nothing is held back
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
			fmt.Fprintf(w, "id: %d\r\ndata: é %d\n\n", i, i)
			if i < 100 {
				w.(http.Flusher).Flush()
			}
		}
	})}
	go server.Serve(ln)
	defer server.Close()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	next <- struct{}{}
	res, err := client.Get("http://" + m.Agent + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for i := range events {
		want := fmt.Sprintf("id: %d\r\ndata: é %d\n\n", i, i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("event %d is %q, %v", i, got, err)
		}
		if i < 99 {
			next <- struct{}{}
		}
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Fatalf("after the last event: %q, %v", rest, err)
	}
}

// A client that sends its request byte by byte is cut off or served, and nobody
// else notices.
func TestASlowClientHoldsUpNobody(t *testing.T) {
	m := meshtest.New(t, meshtest.Config{Policy: policy})
	serveMCP(t, m, &sample.Server{})
	slow, err := net.Dial("tcp", m.Agent)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	io.WriteString(slow, "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	a := connect(t, m, "2025-11-25")
	for range 20 {
		if err := wantText(a.Do(t.Context(), sample.Command{Call: "echo", Arguments: map[string]any{"text": strings.Repeat("x", 1000)}}), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
	}
}
