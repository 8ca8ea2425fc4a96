package tls13

import (
	"crypto/tls"
	"fmt"
)

// Alerts (RFC 8446 §6.2).
const (
	alertUnexpected = 10
	alertBadMAC     = 20
	alertOverflow   = 22
	alertIllegal    = 47
	alertDecode     = 50
)

// A recordError is what a peer did that TLS forbids.
type recordError struct {
	alert byte
	what  string
}

func (e *recordError) Error() string { return "TLS: " + e.what }

// A peerError is what the peer complains of.
type peerError struct{ tls.AlertError }

func (e *peerError) Error() string { return fmt.Sprintf("peer ended TLS: %v", e.AlertError) }
func (e *peerError) Unwrap() error { return e.AlertError }
