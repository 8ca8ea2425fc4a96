package inspect

import (
	"context"
	"io"
	"net"
)

// RoundTrip sends a request of our own, such as one that a layer makes up, over a
// connection that Exchange.Upstream opened, in that exchange's protocol, and returns the response. It takes over
// conn, which ends with ctx and when the response's body is closed; a response
// without a body has a nil one and needs no closing. Reads of r.Body must not block.
func RoundTrip(ctx context.Context, conn net.Conn, r *Request, l Limits) (*Response, error) {
	l = l.withDefaults()
	if c, ok := conn.(priorConn); ok {
		return roundTripStream(ctx, c.Conn, r, &l)
	}
	u := newUpstream(func(context.Context) (net.Conn, error) { return conn, nil }, &l)
	u.interrupt = func() {}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		u.cut()
	})
	end := func() {
		if !stop() {
			<-cut
		}
		u.drop()
		conn.Close()
	}
	resp, err := u.Do(ctx, &Exchange{Request: r})
	if err != nil || resp.Body == nil {
		end()
		return resp, err
	}
	resp.Body = &onlyBody{Reader: resp.Body, end: end}
	return resp, nil
}

// An onlyBody ends its connection when it is closed.
type onlyBody struct {
	io.Reader
	end func()
}

func (b *onlyBody) Close() error {
	if b.end != nil {
		b.end()
		b.end = nil
	}
	return nil
}
