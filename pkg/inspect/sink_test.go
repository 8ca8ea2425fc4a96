package inspect

import (
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A slowConn takes 64 KiB a second.
type slowConn struct {
	net.Conn
	deadline time.Time
}

func (c *slowConn) SetWriteDeadline(by time.Time) error {
	c.deadline = by
	return nil
}

func (c *slowConn) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / (64 << 10))
	if time.Now().After(c.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

// What is in memory is written at once, but who reads slowly has time for each part.
func TestALargeBodyInMemoryMayBeReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{conn: new(slowConn), timeout: time.Minute}
		const size = 16 << 20
		if err := s.body(&replyBody{content: make([]byte, size)}, size, false); err != nil || s.total != size {
			t.Errorf("%d of %d bytes were written: %v", s.total, size, err)
		}
	})
}
