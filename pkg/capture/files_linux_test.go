package capture

import (
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process that has no file left for a connection does not end for that.
func TestAcceptOutlivesAWantOfFiles(t *testing.T) {
	l := listen(t, Config{Address: "127.0.0.1:0"})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	free := uint64(next.Fd())
	next.Close()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: free, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		t.Errorf("accepted %v, %v without a file for it", r.c, r.err)
		got <- r
	case <-time.After(20 * time.Millisecond):
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.err != nil {
		t.Errorf("files are there again: %v", r.err)
	} else {
		r.c.Close()
	}
}
