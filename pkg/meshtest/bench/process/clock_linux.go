package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock is the CPU time of a process, its ended threads too, to the nanosecond.
func clock(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): the complement of the PID, and CPUCLOCK_SCHED.
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// Spin uses all time of one CPU that nobody else wants, until ctx ends: a virtual CPU
// that sleeps takes tens of microseconds to wake, which is not the programs' fault.
func Spin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}
