//go:build !linux || 386 || race

// 386 has no such calls of its own. With the race detector on, calls are made as usual: syscall tells it that what was written
// before a write happened before the read that gets it.

package nowait

import "syscall"

func read(fd uintptr, p []byte) (int, error)  { return syscall.Read(int(fd), p) }
func write(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
