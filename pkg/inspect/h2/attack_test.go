package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An attacker is a raw client on a connection in memory.
type attacker struct {
	*http2.Framer
	net.Conn
	enc   *hpack.Encoder
	block bytes.Buffer
	end   chan http2.ErrCode // of the GOAWAY, or of none
	runs  chan error
}

// attack serves one end of a pipe and is the other one. Streams are answered by answer.
func attack(t *testing.T, c Config, answer func(*Stream)) *attacker {
	near, far := net.Pipe()
	a := &attacker{Conn: near, Framer: http2.NewFramer(near, near), end: make(chan http2.ErrCode, 1), runs: make(chan error, 1)}
	a.enc = hpack.NewEncoder(&a.block)
	var streams sync.WaitGroup
	c.Accept = func(s *Stream) { streams.Go(func() { defer s.Done(); answer(s) }) }
	conn := New(far, nil, c)
	go func() {
		err := conn.Run()
		streams.Wait()
		a.runs <- err
	}()
	go func() {
		code := http2.ErrCode(99)
		defer func() { a.end <- code }()
		for {
			f, err := a.ReadFrame()
			if err != nil {
				return
			}
			if g, ok := f.(*http2.GoAwayFrame); ok {
				code = g.ErrCode
			}
		}
	}()
	io.WriteString(near, http2.ClientPreface)
	a.WriteSettings()
	return a
}

func (a *attacker) get(fields ...string) []byte {
	a.block.Reset()
	all := append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}, fields...)
	for i := 0; i+1 < len(all); i += 2 {
		a.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return a.block.Bytes()
}

// until does f until the connection takes no more, at most n times.
func until(n int, f func(i uint32) error) {
	for i := range n {
		if f(uint32(i)) != nil {
			return
		}
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	hang := func(s *Stream) { s.Read(make([]byte, 1), time.Now().Add(time.Hour)) }
	refuse := func(s *Stream) { s.WriteHeader([]Field{{":status", "404"}}, false, true, true) }
	for name, flood := range map[string]func(a *attacker){
		"rapid reset": func(a *attacker) {
			until(5000, func(i uint32) error {
				a.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: a.get(), EndHeaders: true})
				return a.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			})
		},
		"made you reset": func(a *attacker) {
			until(5000, func(i uint32) error {
				a.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: a.get(), EndHeaders: true})
				return a.WriteWindowUpdate(2*i+1, 1<<31-1)
			})
		},
		"more streams than allowed": func(a *attacker) {
			until(5000, func(i uint32) error {
				return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: a.get(), EndHeaders: true})
			})
		},
		"empty CONTINUATION": func(a *attacker) {
			a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.get()})
			until(5000, func(uint32) error { return a.WriteContinuation(1, false, nil) })
		},
		"empty DATA": func(a *attacker) {
			a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.get(), EndHeaders: true})
			until(50000, func(uint32) error { return a.WriteData(1, false, nil) })
		},
		"SETTINGS":       func(a *attacker) { until(50000, func(uint32) error { return a.WriteSettings() }) },
		"PING":           func(a *attacker) { until(50000, func(uint32) error { return a.WritePing(false, [8]byte{}) }) },
		"unknown frames": func(a *attacker) { until(50000, func(uint32) error { return a.WriteRawFrame(0xfe, 0, 0, nil) }) },
		"PRIORITY": func(a *attacker) {
			until(50000, func(uint32) error { return a.WritePriority(1, http2.PriorityParam{StreamDep: 3}) })
		},
		"tiny windows": func(a *attacker) { until(50000, func(uint32) error { return a.WriteWindowUpdate(0, 1) }) },
		"header list bomb": func(a *attacker) {
			fields := []string{"x", strings.Repeat("x", 3000)}
			for range 200 {
				fields = append(fields, "x", strings.Repeat("x", 3000)) // indexed: one byte each
			}
			a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.get(fields...), EndHeaders: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // time stands still: nothing is earned meanwhile
				answer := hang
				if name == "made you reset" {
					answer = refuse
				}
				a := attack(t, Config{}, answer)
				flood(a)
				if code := <-a.end; code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("ended with %v", code)
				}
				a.Conn.Close()
				if err := <-a.runs; err == nil {
					t.Error("Run returned nil")
				}
			})
		})
	}
}

// TestAPeerThatReadsNothingIsCut: what it makes us say does not pile up.
func TestAPeerThatReadsNothingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		conn := New(far, nil, Config{Accept: func(s *Stream) { s.Done() }})
		done := make(chan error, 1)
		go func() { done <- conn.Run() }()
		fr := http2.NewFramer(near, nil)
		io.WriteString(near, http2.ClientPreface)
		fr.WriteSettings()
		until(2000, func(uint32) error { return fr.WritePing(false, [8]byte{}) })
		err := <-done
		if e, ok := errors.AsType[*ConnError](err); !ok || e.Code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("Run returned %v", err)
		}
		near.Close()
	})
}

func TestAStalledWindowEndsAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := make(chan error, 1)
		a := attack(t, Config{}, func(s *Stream) {
			s.WriteHeader([]Field{{":status", "200"}}, false, false, false)
			wrote <- s.Write(make([]byte, 1<<20), true)
		})
		start := time.Now()
		a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.get(), EndHeaders: true, EndStream: true})
		if err := <-wrote; err == nil || time.Since(start) != time.Minute {
			t.Errorf("Write returned %v after %v", err, time.Since(start))
		}
		a.Conn.Close()
		<-a.runs
	})
}

func TestAConnectionWithoutStreamsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := attack(t, Config{}, func(*Stream) {})
		start := time.Now()
		if err := <-a.runs; err != nil || time.Since(start) < 5*time.Minute || time.Since(start) > 11*time.Minute {
			t.Errorf("Run returned %v after %v", err, time.Since(start))
		}
		a.Conn.Close()
	})
}

// TestBothWaysFull: two ends that both send more than anybody reads must not wait for
// each other for ever.
func TestBothWaysFull(t *testing.T) {
	const streams, size = 40, 256 << 10
	near, far := net.Pipe()
	var answers sync.WaitGroup
	server := New(far, nil, Config{Accept: func(s *Stream) {
		answers.Go(func() {
			defer s.Done()
			buf := make([]byte, 32<<10)
			s.WriteHeader([]Field{{":status", "200"}}, false, false, true)
			for {
				n, err := s.Read(buf, time.Now().Add(time.Minute))
				if err != nil {
					s.Write(nil, err == io.EOF)
					return
				}
				if s.Write(buf[:n], false) != nil {
					return
				}
			}
		})
	}})
	client := New(near, nil, Config{Client: true})
	var runs, calls sync.WaitGroup
	runs.Go(func() { server.Run() })
	runs.Go(func() { client.Run() })
	for range streams {
		calls.Go(func() {
			s, err := client.Open(context.Background(), []Field{{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, false, false, false)
			if err != nil {
				t.Error(err)
				return
			}
			var sent sync.WaitGroup
			sent.Go(func() {
				if err := s.Write(make([]byte, size), true); err != nil {
					t.Error(err)
				}
			})
			got, buf := 0, make([]byte, 32<<10)
			for err == nil {
				var n int
				n, err = s.Read(buf, time.Now().Add(time.Minute))
				got += n
			}
			sent.Wait()
			if got != size || err != io.EOF {
				t.Errorf("%d bytes came back: %v", got, err)
			}
			s.Leave()
		})
	}
	calls.Wait()
	client.Close(net.ErrClosed)
	runs.Wait()
	answers.Wait()
}

// FuzzClient holds the client role to surviving whatever an app says.
func FuzzClient(f *testing.F) {
	var said bytes.Buffer
	fr := http2.NewFramer(&said, nil)
	fr.WriteSettings()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
	fr.WriteData(1, true, []byte("abc"))
	f.Add(said.Bytes())
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		near, far := net.Pipe()
		c := New(near, nil, Config{Client: true, Begin: time.Second})
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run()
		}()
		go io.Copy(io.Discard, far)
		s, err := c.Open(context.Background(), []Field{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}, false, false, true)
		far.SetDeadline(time.Now().Add(10 * time.Second))
		far.Write(bytes)
		far.Close()
		if err == nil {
			if _, err := s.Response(time.Now().Add(10 * time.Second)); err == nil {
				for buf := make([]byte, 1024); err == nil; {
					_, err = s.Read(buf, time.Now().Add(10*time.Second))
				}
			}
			s.Leave()
		}
		<-done
	})
}
