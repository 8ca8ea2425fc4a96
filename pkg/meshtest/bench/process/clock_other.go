//go:build unix && !linux

package process

import (
	"errors"
	"time"
)

func clock(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// Spin needs Linux.
func Spin(int) error { return errors.ErrUnsupported }
