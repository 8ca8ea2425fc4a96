package nowait

import (
	"bytes"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two sockets that are connected.
func pair(t testing.TB) (a, b uintptr) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Close(fds[0])
		syscall.Close(fds[1])
	})
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	return uintptr(fds[0]), uintptr(fds[1])
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, size := range []int{1, mostWrite, mostWrite + 1, mostRead, mostRead + 1} {
		a, b := pair(t)
		sent := bytes.Repeat([]byte("outrigger"), size/9+1)[:size]
		var got []byte
		for left := sent; len(got) < size; {
			if len(left) > 0 {
				n, err := Write(a, left)
				if err != nil && err != syscall.EAGAIN {
					t.Fatalf("%d bytes: write: %v", size, err)
				}
				left = left[n:]
			}
			p := make([]byte, size)
			n, err := Read(b, p)
			if err != nil {
				t.Fatalf("%d bytes: read: %v", size, err)
			}
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%d bytes did not arrive as they were sent", size)
		}
	}
}

func TestNothingToReadAndNoRoomAreSaidAtOnce(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{16, mostRead + 1} {
		if n, err := Read(b, make([]byte, size)); n != 0 || err != syscall.EAGAIN {
			t.Errorf("read of %d bytes: %d, %v", size, n, err)
		}
	}
	for _, size := range []int{mostWrite, mostWrite + 1} {
		var err error
		for err == nil {
			_, err = Write(a, make([]byte, size))
		}
		if err != syscall.EAGAIN {
			t.Errorf("write of %d bytes: %v", size, err)
		}
	}
}

func TestEndAndBreak(t *testing.T) {
	a, b := pair(t)
	if err := syscall.Shutdown(int(a), syscall.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if n, err := Read(b, make([]byte, 16)); n != 0 || err != nil {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if n, err := Write(a, []byte("x")); n != 0 || err != syscall.EPIPE {
		t.Errorf("write after the end: %d, %v", n, err)
	}
	if n, err := Write(^uintptr(0), []byte("x")); n != 0 || err != syscall.EBADF {
		t.Errorf("write to no socket: %d, %v", n, err)
	}
}

func BenchmarkMessage(b *testing.B) {
	from, to := pair(b)
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(from, p); err != nil {
			b.Fatal(err)
		}
		if _, err := Read(to, p); err != nil {
			b.Fatal(err)
		}
		if _, err := Read(to, p); err != syscall.EAGAIN {
			b.Fatal(err)
		}
	}
}
