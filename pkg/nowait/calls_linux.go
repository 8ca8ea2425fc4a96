//go:build linux && !386 && !race

package nowait

import (
	"syscall"
	"unsafe"
)

func read(fd uintptr, p []byte) (int, error) {
	if len(p) > mostRead || len(p) == 0 {
		return syscall.Read(int(fd), p)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

func write(fd uintptr, p []byte) (int, error) {
	if len(p) > mostWrite || len(p) == 0 {
		return syscall.Write(int(fd), p)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// result makes no error of the usual ones anew.
func result(n uintptr, errno syscall.Errno) (int, error) {
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN:
		return 0, again
	}
	return 0, errno
}

var again error = syscall.EAGAIN
