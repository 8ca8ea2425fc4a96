package istiod

import "syscall"

// attributes give a program a group of its own, and let the kernel end it if we
// are killed, as a test that takes too long is.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
