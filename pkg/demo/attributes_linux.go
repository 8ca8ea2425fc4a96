package demo

import "syscall"

// attributes give a process a group of its own, because Ctrl-C is for us and we
// stop the processes in order, and let the kernel end it if we are killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
