//go:build unix && !linux

package demo

import "syscall"

// attributes give a process a group of its own, because Ctrl-C is for us and we
// stop the processes in order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
