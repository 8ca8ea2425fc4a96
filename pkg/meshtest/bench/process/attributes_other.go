//go:build unix && !linux

package process

import "syscall"

// attributes give a program a group of its own, because Ctrl-C is for us and we
// stop the programs in order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func raiseFiles(int) error { return nil }
