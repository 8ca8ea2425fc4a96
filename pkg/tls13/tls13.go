// Package tls13 carries the data of TLS 1.3 connections whose handshake
// crypto/tls has done. It decrypts records where they were read and encrypts
// them where they are written, many to a system call, and holds no buffer while
// nothing comes. It knows nothing of certificates: who is at the other end was
// decided before.
//
// crypto/tls gives the keys to its KeyLogWriter and to nobody else. It is the
// only thing that is asked of it besides the handshake, and it is given a
// connection from which it cannot read beyond the record it is at, so that
// nothing of what follows the handshake stays with it.
package tls13

import (
	"crypto/fips140"
	"crypto/tls"
	"encoding/binary"
	"net"
)

// A Handshake is a connection on which crypto/tls is to shake hands.
type Handshake struct {
	net.Conn
	secrets secrets

	header [headerSize]byte
	have   int  // of header
	body   int  // bytes of the record that were not read yet
	over   bool // and so is the care for records
}

// NewHandshake returns a connection for tls.Client or tls.Server in place of
// raw, whose configuration has KeyLog for its KeyLogWriter.
func NewHandshake(raw net.Conn) *Handshake { return &Handshake{Conn: raw} }

// KeyLog takes the keys from crypto/tls.
func (h *Handshake) KeyLog() *KeyLog { return (*KeyLog)(&h.secrets) }

// Read never reads beyond the end of a record while the handshake lasts.
func (h *Handshake) Read(p []byte) (int, error) {
	if h.over {
		return h.Conn.Read(p)
	}
	if h.body > 0 {
		n, err := h.Conn.Read(p[:min(len(p), h.body)])
		h.body -= n
		return n, err
	}
	n, err := h.Conn.Read(p[:min(len(p), headerSize-h.have)])
	h.have += copy(h.header[h.have:], p[:n])
	if h.have == headerSize {
		h.have, h.body = 0, int(binary.BigEndian.Uint16(h.header[3:]))
	}
	return n, err
}

// NetConn is the connection that was given.
func (h *Handshake) NetConn() net.Conn { return h.Conn }

// A Secured is what a handshake leads to: a *Conn or a *tls.Conn.
type Secured interface {
	net.Conn
	CloseWrite() error
	NetConn() net.Conn
}

// Finish returns the connection that goes on where the handshake of t ended:
// one of ours, or t itself if what was negotiated is not for us, or if in FIPS
// mode nothing but crypto/tls may make nonces. t must not
// have been read or written, and belongs to what is returned. client tells
// which role t has.
func (h *Handshake) Finish(t *tls.Conn, client bool) Secured {
	h.over = true
	defer h.secrets.clear()
	state := t.ConnectionState()
	suite, ok := suites[state.CipherSuite]
	if state.Version != tls.VersionTLS13 || !ok || fips140.Enabled() || h.have != 0 || h.body != 0 {
		return t
	}
	in, out := h.secrets.server, h.secrets.client
	if !client {
		in, out = out, in
	}
	c := newConn(h.Conn, client)
	if c.in.keys.start(suite, in) != nil || c.out.keys.start(suite, out) != nil {
		return t
	}
	return c
}
