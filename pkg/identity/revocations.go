package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"
)

const maxCRLs = 1024

// revocations are the CRLs of one file. They never change. A nil *revocations
// lists nobody.
type revocations struct {
	byIssuer map[string][]*revocationList // by the issuer's name, in DER
}

// A revocationList is one CRL.
type revocationList struct {
	crl     *x509.RevocationList
	serials map[string]struct{}
	// complete: it has no critical extension, as a delta or partial CRL has, so
	// that a serial it does not list is not revoked (RFC 5280 §5.2).
	complete bool

	signers sync.Map // sha256 of an issuer's certificate → whether it signed crl
}

func newRevocations(lists []*x509.RevocationList) *revocations {
	r := &revocations{byIssuer: map[string][]*revocationList{}}
	for _, crl := range lists {
		l := &revocationList{crl: crl, serials: make(map[string]struct{}, len(crl.RevokedCertificateEntries)), complete: true}
		for _, e := range crl.RevokedCertificateEntries {
			l.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
		for _, e := range crl.Extensions {
			l.complete = l.complete && !e.Critical
		}
		issuer := string(crl.RawIssuer)
		r.byIssuer[issuer] = append(r.byIssuer[issuer], l)
	}
	return r
}

func (r *revocations) count() (n int) {
	if r == nil {
		return 0
	}
	for _, lists := range r.byIssuer {
		n += len(lists)
	}
	return n
}

// ends is when the first list that has not ended by now will; zero if none will.
func (r *revocations) ends(now time.Time) (first time.Time) {
	if r == nil {
		return first
	}
	for _, lists := range r.byIssuer {
		for _, l := range lists {
			if end := l.crl.NextUpdate; end.After(now) {
				first = older(first, end)
			}
		}
	}
	return first
}

// admit refuses a path on which a certificate below the root is revoked; if
// required, also one on which that cannot be told. Then the answer holds until
// the first list that it rests on ends.
func (r *revocations) admit(path []*x509.Certificate, now time.Time, required bool) (until time.Time, err error) {
	for i, cert := range path[:len(path)-1] {
		revoked, known := r.status(cert, path[i+1], now)
		if revoked {
			return until, &PeerError{Reason: ReasonRevoked, Err: fmt.Errorf("%s with serial %x is revoked by its issuer %q",
				rank(i), cert.SerialNumber, path[i+1].Subject)}
		}
		if !required {
			continue
		}
		if known.IsZero() {
			return until, &PeerError{Reason: ReasonRevocation, Err: fmt.Errorf("no current CRL of issuer %q covers %s with serial %x",
				path[i+1].Subject, rank(i), cert.SerialNumber)}
		}
		if until.IsZero() || known.Before(until) {
			until = known
		}
	}
	return until, nil
}

func rank(i int) string {
	if i == 0 {
		return "the certificate"
	}
	return "the intermediate"
}

// status tells whether cert is revoked and, if not, until when that is known;
// zero means that it is not known. A list counts if issuer really signed it.
// One past its end still revokes, but no longer clears.
func (r *revocations) status(cert, issuer *x509.Certificate, now time.Time) (revoked bool, known time.Time) {
	if r == nil {
		return false, known
	}
	for _, l := range r.byIssuer[string(issuer.RawSubject)] {
		if !l.signedBy(issuer) {
			continue
		}
		if _, ok := l.serials[string(cert.SerialNumber.Bytes())]; ok {
			return true, known
		}
		if l.complete && now.Before(l.crl.NextUpdate) && l.crl.NextUpdate.After(known) {
			known = l.crl.NextUpdate
		}
	}
	return false, known
}

// signedBy remembers its answer: issuers are authorities that lead to our
// roots, so that there are few.
func (l *revocationList) signedBy(issuer *x509.Certificate) bool {
	key := sha256.Sum256(issuer.Raw)
	if answer, ok := l.signers.Load(key); ok {
		return answer.(bool)
	}
	answer := l.crl.CheckSignatureFrom(issuer) == nil
	l.signers.Store(key, answer)
	return answer
}

func parseCRLs(data []byte) ([]*x509.RevocationList, error) {
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		crl, err := parseCRL(data)
		return []*x509.RevocationList{crl}, err
	}
	var lists []*x509.RevocationList
	for rest := data; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "X509 CRL" {
			return nil, errors.New("it has something else than PEM blocks of type X509 CRL, or is cut off")
		}
		crl, err := parseCRL(block.Bytes)
		if err != nil {
			return nil, err
		}
		if lists = append(lists, crl); len(lists) > maxCRLs {
			return nil, fmt.Errorf("it has more than %d CRLs", maxCRLs)
		}
	}
	return lists, nil
}

func parseCRL(der []byte) (*x509.RevocationList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("parse CRL: %w", err)
	}
	if len(crl.Raw) != len(der) {
		return nil, errors.New("parse CRL: data after it")
	}
	return crl, nil
}
