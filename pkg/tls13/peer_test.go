package tls13

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// forged is what an evil peer sends.
type forged struct {
	name   string
	client bool // the evil peer is the client
	send   func(t *testing.T, c *Conn)
	alert  byte
}

func raw(p []byte) func(*testing.T, *Conn) {
	return func(t *testing.T, c *Conn) {
		_, err := c.Conn.Write(p)
		check(t, err)
	}
}

// content sends records with some content.
func content(typ byte, times int, data []byte) func(*testing.T, *Conn) {
	return func(t *testing.T, c *Conn) {
		for range times {
			sendRaw(t, c, data, typ)
		}
	}
}

var forgeries = []forged{
	{"garbage", false, raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), alertUnexpected},
	{"a record in the clear", false, raw([]byte{21, 3, 3, 0, 2, 2, 40}), alertUnexpected},
	{"a change of cipher", false, raw([]byte{20, 3, 3, 0, 1, 1}), alertUnexpected},
	{"a length over the limit", false, raw([]byte{23, 3, 3, 0x41, 0x01}), alertOverflow},
	{"an empty record", false, raw([]byte{23, 3, 3, 0, 0}), alertBadMAC},
	{"a flipped bit", false, func(t *testing.T, c *Conn) {
		b := c.out.seal(nil, []byte("word"), typeApplication)
		b[headerSize] ^= 1
		raw(b)(t, c)
	}, alertBadMAC},
	{"a changed header", false, func(t *testing.T, c *Conn) {
		b := c.out.seal(nil, []byte("word"), typeApplication)
		b[2] = 1
		raw(b)(t, c)
	}, alertBadMAC},
	{"a record twice", false, func(t *testing.T, c *Conn) {
		b := c.out.seal(nil, []byte("word"), typeHandshake+100)
		raw(append(bytes.Clone(b), b...))(t, c)
	}, alertUnexpected},
	{"too much in a record", false, content(typeApplication, 1, make([]byte, MaxPlaintext+1)), alertOverflow},
	{"padding only", false, content(0, 1, nil), alertUnexpected},
	{"an unknown content", false, content(99, 1, []byte("x")), alertUnexpected},
	{"records without data for ever", false, content(typeApplication, maxIdle+1, nil), alertUnexpected},
	{"new keys for ever", false, func(t *testing.T, c *Conn) {
		for range maxIdle + 1 {
			sendRaw(t, c, []byte{keyUpdate, 0, 0, 1, 0}, typeHandshake)
			check(t, c.out.keys.update())
		}
	}, alertUnexpected},
	{"an empty handshake record", false, content(typeHandshake, 1, nil), alertUnexpected},
	{"a ClientHello", true, content(typeHandshake, 1, []byte{1, 0, 0, 4, 1, 2, 3, 4}), alertUnexpected},
	{"a request for a certificate", false, content(typeHandshake, 1, []byte{13, 0, 0, 4, 1, 2, 3, 4}), alertUnexpected},
	{"a ticket from a client", true, content(typeHandshake, 1, []byte{newSessionTicket, 0, 0, 1, 1}), alertUnexpected},
	{"an enormous ticket", false, content(typeHandshake, 1, []byte{newSessionTicket, 2, 0, 0}), alertUnexpected},
	{"a ticket that breaks off", false, func(t *testing.T, c *Conn) {
		content(typeHandshake, 1, []byte{newSessionTicket, 0, 0, 9, 1})(t, c)
		content(typeApplication, 1, []byte("x"))(t, c)
	}, alertUnexpected},
	{"new keys with more behind", false, content(typeHandshake, 1, []byte{keyUpdate, 0, 0, 1, 0, 0}), alertUnexpected},
	{"new keys of another size", false, content(typeHandshake, 1, []byte{keyUpdate, 0, 0, 2, 0, 0}), alertUnexpected},
	{"new keys that are none", false, content(typeHandshake, 1, []byte{keyUpdate, 0, 0, 1, 2}), alertIllegal},
	{"half an alert", false, content(typeAlert, 1, []byte{2}), alertDecode},
}

// TestAnEvilPeerIsCutAndTold: nothing it sends is taken for data, and it reads an alert.
func TestAnEvilPeerIsCutAndTold(t *testing.T) {
	for _, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			client, server := pair(t, match{true, true}, nil)
			victim, evil := client.(*Conn), server.(*Conn)
			if f.client {
				victim, evil = evil, victim
			}
			f.send(t, evil)
			check(t, victim.SetReadDeadline(time.Now().Add(10*time.Second)))
			n, err := victim.Read(make([]byte, 64<<10))
			var mistake *recordError
			if n != 0 || !errors.As(err, &mistake) || mistake.alert != f.alert {
				t.Fatalf("read %d bytes, %v", n, err)
			}
			if _, err := victim.Read(make([]byte, 1)); !errors.As(err, &mistake) {
				t.Errorf("read again: %v", err)
			}
			_, err = evil.Read(make([]byte, 1))
			var alert tls.AlertError
			if !errors.As(err, &alert) || byte(alert) != f.alert {
				t.Errorf("the peer was told %v", err)
			}
		})
	}
}

func TestWhatAPeerMaySendBesidesData(t *testing.T) {
	client, server := pair(t, match{true, true}, nil)
	ours, peer := client.(*Conn), server.(*Conn)
	sendRaw(t, peer, []byte{1, 90}, typeAlert)                                             // user_canceled
	sendRaw(t, peer, []byte{newSessionTicket, 0}, typeHandshake)                           // a ticket in pieces
	sendRaw(t, peer, []byte{0, 3, 1, 2}, typeHandshake)                                    // ...
	sendRaw(t, peer, []byte{3, newSessionTicket, 0, 0, 0, keyUpdate, 0, 0}, typeHandshake) // its end, another, and the begin of new keys
	sendRaw(t, peer, []byte{1, 0}, typeHandshake)
	check(t, peer.out.keys.update())
	sendRaw(t, peer, append([]byte("word"), typeApplication, 0, 0, 0), 0) // padded: the last byte is padding too
	got := make([]byte, 4)
	if _, err := io.ReadFull(ours, got); err != nil || string(got) != "word" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAnAlertOfThePeerIsItsComplaint(t *testing.T) {
	client, server := pair(t, match{true, false}, nil)
	_, err := client.(*Conn).Conn.Write([]byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	check(t, err)
	if _, err := server.Read(make([]byte, 1)); err == nil {
		t.Fatal("a stock peer took it")
	}
	if _, err := client.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("%v", err)
	}
}

// stream is a raw connection that has something to read and swallows what is written.
type stream struct {
	net.Conn
	r io.Reader
}

func (s *stream) Read(p []byte) (int, error)       { return s.r.Read(p) }
func (s *stream) Write(p []byte) (int, error)      { return len(p), nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// FuzzRecords takes content types and lengths from the input and seals them:
// what verifies is parsed, whatever it is, and data comes out as it went in.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x17\x04word"), false)
	f.Add([]byte("\x16\x05\x18\x00\x00\x01\x01\x17\x01x"), true)
	f.Add([]byte("\x16\x06\x04\x00\x00\x09ab\x15\x02\x01\x00"), true)
	s := suites[tls.TLS_AES_128_GCM_SHA256]
	secret := bytes.Repeat([]byte{1}, s.hash.Size())
	f.Fuzz(func(t *testing.T, program []byte, client bool) {
		var o out
		check(t, o.keys.start(s, secret))
		var wire, want []byte
		for len(program) > 2 {
			typ, n := program[0], min(int(program[1]), len(program)-2)
			data := program[2 : 2+n]
			program = program[2+n:]
			if typ == 0 { // padding: what is before it would be the type
				typ = 1
			}
			wire = o.seal(wire, data, typ)
			if typ == typeApplication {
				want = append(want, data...)
			}
		}
		wire = append(wire, program...) // garbage at the end
		c := newConn(&stream{r: bytes.NewReader(wire)}, client)
		check(t, errors.Join(c.in.keys.start(s, secret), c.out.keys.start(s, secret)))
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(want, got) {
			t.Errorf("got %q of %q, %v", got, want, err)
		}
	})
}
