package inspect

import (
	"context"
	"io"

	"github.com/outrigger-mesh/outrigger/pkg/inspect/h2"
)

// A streamed is a request that came on a stream of HTTP/2, in one allocation with
// what the engine needs to know of it besides.
type streamed struct {
	incoming
	st      *h2.Stream
	secret  bool // a field must not be indexed where it goes on
	content streamContent
	trip    *streamTrip // to the app, the latest
	cancel  context.CancelCauseFunc
	unheard bool // it goes on though the stream was cut; guarded by the multiplexer's mu
}

// readStream makes the request of a stream. It is as strict as parseRequest: what
// passes here could be written as HTTP/1.1 and would be read the same there.
func readStream(st *h2.Stream, l *Limits) (*streamed, error) {
	h := st.Header
	if h.TooLarge {
		return nil, &Error{Status: 431, Problem: "request header is too large"}
	}
	in := &streamed{st: st, secret: h.Secret}
	in.header = in.fields[:0]
	for _, f := range h.Fields {
		in.header = append(in.header, Field(f))
	}
	if err := in.settle(); err != nil {
		return nil, err
	}
	if err := checkMethod(h.Method); err != nil {
		return nil, err
	}
	switch {
	case h.End:
		in.length, in.framing = 0, framingNone
	case in.framing == framingNone:
		in.length = -1
	}
	// RFC 9113 §8.3.1: Host, if it is there at all, must say what :authority says.
	if !h.HasAuthority || !validHost(h.Authority) {
		return nil, bad(":authority is missing or not valid")
	}
	if in.hosts > 1 || in.hosts == 1 && !equalFold(in.host, h.Authority) {
		return nil, bad(":authority and Host name different authorities")
	}
	if h.Scheme != "http" && h.Scheme != "https" {
		return nil, bad(":scheme is neither http nor https")
	}
	if h.Path[0] != '/' {
		return nil, bad(":path is not a path")
	}
	r := &in.request
	r.Method, r.Host, r.scheme = h.Method, h.Authority, h.Scheme
	if err := r.target(h.Path); err != nil {
		return nil, err
	}
	r.Header, r.ContentLength = in.header, in.length
	return in, in.check()
}

// A streamContent reads the content of a stream's request, or of its response.
type streamContent struct {
	pace
	st      *h2.Stream
	expects bool // "100-continue" waits for an answer
	end     func()
}

// Read reads content. It fails once the stream is reset or too slow.
func (b *streamContent) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.expects {
		b.expects = false
		if err := b.st.Continue(); err != nil {
			return 0, err
		}
	}
	n, err := b.st.Read(p, b.deadline())
	b.got += int64(n)
	return n, err
}

// Close ends the exchange with the app. It may be called beside a Read, which it ends.
func (b *streamContent) Close() error {
	b.end()
	return nil
}

// receive makes the exchange of a stream.
func (m *multiplexer) receive(st *h2.Stream) (*streamed, error) {
	in, err := readStream(st, &m.Limits)
	if err != nil {
		return nil, err
	}
	in.request.Body = nothing{}
	if in.length != 0 {
		b := &in.content
		b.st, b.expects, b.idle, b.rate = st, in.expects, m.Limits.Body, m.Limits.BodyRate
		in.request.Body = b
	}
	m.begin(&in.exchange, &in.request)
	in.exchange.stream = in
	in.exchange.Upstream = m.prior
	return in, nil
}

// nothing is a body without content.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// serve answers one stream.
func (m *multiplexer) serve(ctx context.Context, st *h2.Stream) {
	defer st.Done()
	defer m.recover()
	in, err := m.receive(st)
	if err != nil {
		m.keep(err)
		if err := m.respond(st, m.reply(asError(err)), st.Header.Method == "HEAD"); err != nil {
			m.keep(disconnected(err))
		}
		return
	}
	ctx, in.cancel = context.WithCancelCause(ctx)
	defer in.cancel(nil)
	defer m.settle(in)
	st.OnEnd(func(err error) {
		if !m.outlives(in) {
			in.cancel(disconnected(err))
		}
	})
	m.keep(m.exchangeStream(ctx, in))
}

// outlives tells whether an exchange goes on though its stream has been cut. While one
// does, the end of the connection ends only the others, each by its stream.
func (m *multiplexer) outlives(in *streamed) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if in.unheard {
		return true
	}
	if !in.exchange.outlives(in.cancel) {
		return false
	}
	in.unheard = true
	m.unheard++
	return true
}

// settle ends the afterlife of an exchange. The last one's end is that of the connection,
// if that is over.
func (m *multiplexer) settle(in *streamed) {
	in.exchange.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !in.unheard {
		return
	}
	if m.unheard--; m.unheard == 0 && m.ended {
		m.leave(ErrDisconnected)
	}
}

// end is the end of the connection: it ends what does not go on without it.
func (m *multiplexer) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended = true; m.unheard == 0 {
		m.leave(ErrDisconnected)
	}
}
