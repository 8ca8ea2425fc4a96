// Package nowait makes system calls on sockets that return at once, whatever the socket's mode.
//
// Go's scheduler is told of a system call because it may last: it keeps a thread
// awake (sysmon) that wakes every 20 µs to take the processor from one that does. For
// calls that move a message of a few KiB and never wait, this costs more than the call.
// Calls that move more are made as usual.
package nowait

import "syscall"

// What is moved without telling the scheduler, in bytes: some microseconds of work.
// To write is more work than to read, for it is the kernel's way to the other end.
const (
	mostRead  = 64 << 10
	mostWrite = 10 << 10
)

// Read reads what the socket has now: syscall.EAGAIN if nothing, 0 if it has ended.
func Read(fd uintptr, p []byte) (int, error) {
	for {
		n, err := read(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Write writes what fits into the socket's buffer now: syscall.EAGAIN if nothing does.
func Write(fd uintptr, p []byte) (int, error) {
	for {
		n, err := write(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
