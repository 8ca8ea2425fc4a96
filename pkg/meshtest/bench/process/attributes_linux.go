package process

import "syscall"

// attributes give a program a group of its own, because Ctrl-C is for us and we
// stop the programs in order, and let the kernel end it if we are killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
