package capture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// A ListenError is why we cannot listen, and what to do about it.
type ListenError struct {
	Address string
	Problem string
	Remedy  string // "" if we know none
	Err     error
}

func (e *ListenError) Error() string {
	if e.Remedy == "" {
		return fmt.Sprintf("listen on %s: %s", e.Address, e.Problem)
	}
	return fmt.Sprintf("listen on %s: %s: %s", e.Address, e.Problem, e.Remedy)
}

func (e *ListenError) Unwrap() error { return e.Err }

func explain(c Config, err error) error {
	e := &ListenError{Address: c.Address, Problem: reason(err).Error(), Err: err}
	choose := "choose another"
	if c.Flag != "" {
		choose += " with " + c.Flag
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Problem = "address already in use"
		e.Remedy = choose + " or stop what uses it"
	case errors.Is(err, syscall.EACCES):
		e.Problem = "permission denied"
		e.Remedy = choose + " above 1023 or grant CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Problem = "no interface of this machine has this address"
		e.Remedy = choose
	default:
		if _, ok := errors.AsType[*net.AddrError](err); ok {
			e.Remedy = "write it as host:port"
		}
	}
	return e
}

// reason takes off what the net package wraps around an error that its caller says
// anyway: the operation and the address.
func reason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		err = sys.Err
	}
	return err
}
