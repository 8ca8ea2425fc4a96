package sidecar

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/capture"
)

// listeners are the sidecar's open ports.
type listeners struct {
	hbone    *capture.Listener
	plain    *capture.Listener // nil: off
	outbound []*capture.Listener
	admin    []*adminServer
}

// listen opens every port, or none: what was opened before one failed is closed.
func (s *Sidecar) listen(ctx context.Context) (l *listeners, err error) {
	l = &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	open := func(address, flag, forward string) (*capture.Listener, error) {
		if address == Off {
			return nil, nil
		}
		return capture.Listen(ctx, capture.Config{Address: address, Flag: flag, Forward: forward})
	}
	if l.hbone, err = open(s.config.Inbound.HBONE, "--hbone-listen", ""); err != nil {
		return l, err
	}
	if l.plain, err = open(s.config.Inbound.Plain, "--plain-listen", ""); err != nil {
		return l, err
	}
	captured, err := open(s.config.Outbound.Capture, "--outbound-listen", "")
	if err != nil {
		return l, err
	}
	if captured != nil {
		l.outbound = append(l.outbound, captured)
	}
	for _, f := range s.config.Outbound.Forwards {
		ln, err := open(f.Listen, "--forward", net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
		if err != nil {
			return l, err
		}
		l.outbound = append(l.outbound, ln)
	}
	l.admin, err = s.listenAdmin(ctx)
	return l, err
}

func (l *listeners) close() error {
	var errs []error
	for _, ln := range append([]*capture.Listener{l.hbone, l.plain}, l.outbound...) {
		if ln != nil {
			errs = append(errs, ln.Close())
		}
	}
	for _, a := range l.admin {
		errs = append(errs, a.listener.Close())
	}
	return errors.Join(errs...)
}
