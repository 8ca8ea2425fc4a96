package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes give a program a group of its own, because Ctrl-C is for us and we
// stop the programs in order, and let the kernel end it if we are killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// raiseFiles lets a process open as many files as it may ask for, as Go programs do by themselves.
func raiseFiles(pid int) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil)
}
