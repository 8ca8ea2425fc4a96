package baseline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// What a connection asks the app for: one byte, for those with a count
// followed by eight.
const (
	AskEcho   = 'E' // until the end: what comes goes back
	AskSink   = 'S' // with a count: read that many bytes, then answer one
	AskSource = 'G' // with a count: send that many bytes
)

// Ask writes a question to the app.
func Ask(c io.Writer, what byte, count int64) error {
	q := []byte{what}
	if what != AskEcho {
		q = binary.BigEndian.AppendUint64(q, uint64(count))
	}
	_, err := c.Write(q)
	return err
}

// App serves the same questions on all addresses, until ctx ends.
func App(ctx context.Context, addresses []string) error {
	var listeners []net.Listener
	for _, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
	}
	errs := make([]error, len(listeners))
	var all sync.WaitGroup
	for i, ln := range listeners {
		all.Go(func() {
			errs[i] = serve(ctx, ln, func(c net.Conn) {
				defer c.Close()
				_ = answer(c) // who asked notices
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func answer(c net.Conn) error {
	for {
		var q [9]byte
		if _, err := io.ReadFull(c, q[:1]); err != nil {
			return err
		}
		if q[0] == AskEcho {
			return echo(c)
		}
		if _, err := io.ReadFull(c, q[1:]); err != nil {
			return err
		}
		count := int64(binary.BigEndian.Uint64(q[1:]))
		switch q[0] {
		case AskSink:
			if err := sink(c, count); err != nil {
				return err
			}
		case AskSource:
			if err := source(c, count); err != nil {
				return err
			}
		default:
			return fmt.Errorf("question %q is none", q[0])
		}
	}
}

func echo(c net.Conn) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
	}
}

const block = 256 << 10

var blocks = sync.Pool{New: func() any { b := make([]byte, block); return &b }}

func sink(c net.Conn, count int64) error {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for count > 0 {
		n, err := c.Read((*buf)[:min(count, block)])
		if err != nil {
			return err
		}
		count -= int64(n)
	}
	_, err := c.Write([]byte{'.'})
	return err
}

func source(c io.Writer, count int64) error {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for count > 0 {
		n, err := c.Write((*buf)[:min(count, block)])
		if err != nil {
			return err
		}
		count -= int64(n)
	}
	return nil
}
