// Package token validates bearer tokens: JSON Web Tokens (RFC 7519) signed by an
// issuer that a policy accepts, for one of its audiences, at this time. Keys come
// from key sets in files, behind URLs or in policies, and are kept.
//
// It decides who speaks, never what they may do.
package token

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// MaxBytes is the longest token that is looked at.
const MaxBytes = 16 << 10

var (
	// ErrInvalid means that a token is not valid here. What wraps it says why,
	// in words that its bearer may read.
	ErrInvalid = errors.New("invalid token")

	// ErrNoKeys means that the keys of the token's issuer are not to be had now, so
	// that nobody can say whether the token is valid.
	ErrNoKeys = errors.New("the issuer's keys are not available")
)

// Config says what validation may cost. The zero value works.
type Config struct {
	Client  *http.Client  // fetches key sets; nil means one of our own that follows no redirects
	Dial    DialFunc      // connects our own client; nil means as net.Dialer does
	Leeway  time.Duration // how far clocks may differ; 0 means 30s
	Refresh time.Duration // how long keys are used before they are fetched again, if the server does not say; 0 means 5m
	Stale   time.Duration // how long keys are used that cannot be fetched again; 0 means 24h
	Tokens  int           // validated tokens that are remembered; 0 means 4096
}

// A DialFunc connects to host:port, where the host may be a name.
type DialFunc func(ctx context.Context, to string) (net.Conn, error)

// A Token is one that was validated.
type Token struct {
	Issuer, Subject string
	Claims          map[string]any // as JSON; numbers are float64. Not to be changed
	Expires         time.Time
	NotBefore       time.Time // zero: at any time before
}

// A Verifier validates tokens, for any number of goroutines.
type Verifier struct {
	config Config
	work   sync.WaitGroup // loads under way

	mu     sync.Mutex // guards what follows
	closed bool
	sets   map[source]*keySet
	known  map[fingerprint]known
}

// A fingerprint is a token and what it was validated by.
type fingerprint struct {
	sum   [sha256.Size]byte
	rules *policy.Tokens
}

// known is what was found out about a token.
type known struct {
	token      *Token
	set        *keySet
	generation uint64
}

// New makes a verifier. Close ends it.
func New(c Config) *Verifier {
	c.Leeway = or(c.Leeway, 30*time.Second)
	c.Refresh = or(c.Refresh, 5*time.Minute)
	c.Stale = or(c.Stale, 24*time.Hour)
	c.Tokens = or(c.Tokens, 4096)
	if c.Client == nil {
		c.Client = newClient(c.Dial)
	}
	return &Verifier{config: c, sets: map[source]*keySet{}, known: map[fingerprint]known{}}
}

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// newClient trusts what the system trusts. A redirect would let who answers a URL
// choose the place that keys come from.
func newClient(dial DialFunc) *http.Client {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    fetchTime,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true, // it is asked every few minutes
	}
	if dial != nil {
		transport.DialContext = func(ctx context.Context, _, to string) (net.Conn, error) { return dial(ctx, to) }
	}
	return &http.Client{
		Timeout: fetchTime, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

var errRedirect = errors.New("redirects are not followed")

// Close ends fetches that are under way and waits for them. Nothing is valid afterwards.
func (v *Verifier) Close() {
	v.mu.Lock()
	v.closed = true
	clear(v.known)
	for _, s := range v.sets {
		s.end()
	}
	v.mu.Unlock()
	v.work.Wait()
}

// Verify validates raw for one of the issuers in rules. The error wraps ErrInvalid
// or ErrNoKeys. It may wait for keys to be fetched, until ctx ends at the latest.
func (v *Verifier) Verify(ctx context.Context, raw string, rules *policy.Tokens) (*Token, error) {
	if len(raw) > MaxBytes {
		return nil, invalid("it is longer than %d bytes", MaxBytes)
	}
	f := fingerprint{sha256.Sum256([]byte(raw)), rules}
	now := time.Now()
	if t := v.recall(ctx, f, now); t != nil {
		return t, nil
	}
	k, err := v.check(ctx, raw, rules, now)
	if err != nil {
		return nil, err
	}
	v.remember(f, k, now)
	return k.token, nil
}

// recall finds a token that was validated before, while the keys that did it are
// still its issuer's.
func (v *Verifier) recall(ctx context.Context, f fingerprint, now time.Time) *Token {
	v.mu.Lock()
	k, ok := v.known[f]
	v.mu.Unlock()
	if !ok {
		return nil
	}
	if _, generation := v.current(ctx, k.set, now); generation != k.generation || !v.isTimely(k.token, now) {
		v.mu.Lock()
		delete(v.known, f)
		v.mu.Unlock()
		return nil
	}
	return k.token
}

// isTimely tells whether a token that was valid is so still, by a clock that may have
// been set back since.
func (v *Verifier) isTimely(t *Token, now time.Time) bool {
	return now.Before(v.Ends(t)) && !now.Before(t.NotBefore.Add(-v.config.Leeway))
}

// Ends is when a token ends, with the leeway that Verify allows.
func (v *Verifier) Ends(t *Token) time.Time { return t.Expires.Add(v.config.Leeway) }

func (v *Verifier) remember(f fingerprint, k known, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	if len(v.known) >= v.config.Tokens {
		v.forget(now)
	}
	v.known[f] = k
}

// forget makes room: what has expired goes, and as much again of the rest.
func (v *Verifier) forget(now time.Time) {
	room := v.config.Tokens / 8
	for f, k := range v.known {
		if room > 0 || now.After(k.token.Expires) {
			delete(v.known, f)
			room--
		}
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
