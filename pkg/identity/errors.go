package identity

import (
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// ErrNoIdentity means that there is no certificate yet, or that it has expired.
var ErrNoIdentity = errors.New("no valid certificate of our own")

// ErrRevoked is what a PeerError with ReasonRevoked is, for errors.Is.
var ErrRevoked = errors.New("certificate is revoked")

// A Reason says why a peer was refused. Its values are few and ours, so that
// it may label a metric.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	ReasonALPN        Reason = "alpn"         // the peer does not speak h2
	ReasonResumed     Reason = "resumed"      // the session was resumed, and no certificate shown
	ReasonCertificate Reason = "certificate"  // none, too many, a CA, a weak key, a wrong key usage
	ReasonName        Reason = "name"         // not exactly one URI name that is a SPIFFE ID
	ReasonTrustDomain Reason = "trust-domain" // we have no roots of its trust domain
	ReasonChain       Reason = "chain"        // does not lead to the roots of its trust domain
	ReasonValidity    Reason = "validity"     // expired, or not valid yet
	ReasonRevoked     Reason = "revoked"      // a CRL lists it or its issuer
	ReasonRevocation  Reason = "revocation"   // whether it is revoked cannot be told, and must be
	ReasonUnexpected  Reason = "unexpected"   // authentic, but not whom we called
)

// A PeerError says that the peer's certificate does not admit it.
type PeerError struct {
	Reason    Reason
	Principal mesh.Principal // the identity claimed, proved or not; zero if none could be read
	Err       error          // the particulars
}

func (e *PeerError) Error() string {
	if e.Principal.IsZero() {
		return fmt.Sprintf("peer certificate refused (%s): %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("peer certificate of %v refused (%s): %v", e.Principal, e.Reason, e.Err)
}

func (e *PeerError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrRevoked) true for a revoked certificate.
func (e *PeerError) Is(target error) bool { return target == ErrRevoked && e.Reason == ReasonRevoked }

// Flag is the response flag, as ztunnel names them, for an error of Server,
// Client or Recheck: CERT_REVOKED, IDENTITY_ERROR (the peer's identity or our
// own) or TLS_FAILURE (all else); "" for nil.
func Flag(err error) string {
	if err == nil {
		return ""
	}
	var peer *PeerError
	switch {
	case errors.Is(err, ErrRevoked):
		return "CERT_REVOKED"
	case errors.Is(err, ErrNoIdentity):
		return "IDENTITY_ERROR"
	case errors.As(err, &peer) && peer.Reason != ReasonALPN && peer.Reason != ReasonResumed:
		return "IDENTITY_ERROR"
	}
	return "TLS_FAILURE"
}

// CutFlag is the response flag for an error that ended an open connection:
// Flag's if its peer was no longer admitted or we had no certificate any more,
// else "".
func CutFlag(err error) string {
	var peer *PeerError
	if errors.As(err, &peer) || errors.Is(err, ErrNoIdentity) {
		return Flag(err)
	}
	return ""
}
