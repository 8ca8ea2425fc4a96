package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

const (
	maxSets    = 256     // key sets that are kept
	maxSet     = 1 << 20 // bytes of a key set
	maxSetKeys = 128
	minRSA     = 2048 // bits

	fetchTime  = 5 * time.Second
	fileTime   = 5 * time.Second  // after which a file is looked at again
	renewAfter = 30 * time.Second // least time between two fetches because of unknown keys
	firstPause = time.Second      // after a failure; doubled by each further one
	lastPause  = 5 * time.Minute
	leastAge   = time.Minute // of what a server says about how long its keys may be kept
	greatAge   = time.Hour
)

// errEnded is why there are no keys where nothing else went wrong.
var errEnded = errors.New("they are not fetched any more: the verifier was closed, or has too many key sets")

// A source is where a key set is.
type source struct{ url, file, text string }

// A keySet is the keys of one source, kept.
type keySet struct {
	source source

	mu         sync.Mutex // guards what follows
	keys       []jose.JSONWebKey
	generation uint64 // counts changes; 0 means that there never were keys
	fetched    time.Time
	asked      time.Time // when the last load began
	due        time.Time // when to load again
	failures   int
	failure    error
	loading    chan struct{} // closed when the load under way ends; nil: there is none
	cancel     context.CancelFunc
	ended      bool // nothing is loaded any more
}

// end ends a load that is under way and allows no other.
func (s *keySet) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.failure == nil {
		s.failure = errEnded
	}
	if s.loading != nil {
		s.cancel()
	}
}

// set finds the key set of an issuer, or starts one; nil after Close.
func (v *Verifier) set(issuer *policy.Issuer) *keySet {
	at := source{issuer.KeysURL, issuer.KeysFile, issuer.Keys}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sets[at]
	if v.closed {
		return nil
	}
	if s == nil {
		if len(v.sets) >= maxSets {
			for _, unused := range v.sets {
				unused.end()
			}
			clear(v.sets) // policies changed that often: those in use come back
		}
		s = &keySet{source: at}
		v.sets[at] = s
	}
	return s
}

// current are the keys that may be used now, without waiting for any; it sees to
// it that they are loaded again when they are due.
func (v *Verifier) current(ctx context.Context, s *keySet, now time.Time) ([]jose.JSONWebKey, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.due) {
		v.load(ctx, s, now)
	}
	if s.generation == 0 || now.Sub(s.fetched) > v.config.Stale {
		return nil, 0
	}
	return s.keys, s.generation
}

// keys are those that may be used now; it waits for the first ones.
func (v *Verifier) keys(ctx context.Context, s *keySet, now time.Time) ([]jose.JSONWebKey, uint64, error) {
	if keys, generation := v.current(ctx, s, now); generation != 0 {
		return keys, generation, nil
	}
	return v.wait(ctx, s)
}

// renewed loads the keys once more, if it is not long enough ago that they were,
// because one is missing in those of that generation.
func (v *Verifier) renewed(ctx context.Context, s *keySet, generation uint64) ([]jose.JSONWebKey, uint64, error) {
	now := time.Now()
	s.mu.Lock()
	if s.generation == generation && now.Sub(s.asked) >= renewAfter && s.failures == 0 {
		v.load(ctx, s, now)
	}
	s.mu.Unlock()
	return v.wait(ctx, s)
}

// wait waits for the load that is under way, if there is one.
func (v *Verifier) wait(ctx context.Context, s *keySet) ([]jose.JSONWebKey, uint64, error) {
	s.mu.Lock()
	loading := s.loading
	s.mu.Unlock()
	if loading != nil {
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("%w: %w", ErrNoKeys, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == 0 || time.Since(s.fetched) > v.config.Stale {
		return nil, 0, fmt.Errorf("%w: %w", ErrNoKeys, s.failure)
	}
	return s.keys, s.generation, nil
}

// load starts a load unless one is under way. s is locked. The load is for all who
// wait for it, and so does not end with the ctx of the one that began it.
func (v *Verifier) load(ctx context.Context, s *keySet, now time.Time) {
	if s.loading != nil || s.ended {
		return
	}
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	s.loading, s.cancel, s.asked = done, cancel, now
	v.work.Go(func() {
		defer close(done)
		defer cancel()
		keys, age, err := v.read(ctx, s.source)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.loading = nil
		s.settle(keys, age, err, time.Now())
	})
}

// settle takes what came of a load. After a failure the next one waits, each time
// twice as long; the keys that were there stay.
func (s *keySet) settle(keys []jose.JSONWebKey, age time.Duration, err error, now time.Time) {
	if err != nil {
		s.failure = err
		s.due = now.Add(min(firstPause<<min(s.failures, 16), lastPause))
		s.failures++
		return
	}
	s.failure, s.failures = nil, 0
	s.fetched, s.due = now, now.Add(age)
	if s.generation == 0 || !sameKeys(s.keys, keys) {
		s.keys = keys
		s.generation++
	}
}

func sameKeys(a, b []jose.JSONWebKey) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// read reads a key set, and tells after what time to do it again.
func (v *Verifier) read(ctx context.Context, from source) (keys []jose.JSONWebKey, age time.Duration, err error) {
	var text []byte
	where := "the key set in the policy"
	switch {
	case from.url != "":
		where = from.url
		text, age, err = v.fetch(ctx, from.url)
	case from.file != "":
		where = from.file
		text, err = readFile(from.file)
		age = fileTime
	default:
		text, age = []byte(from.text), greatAge
	}
	if err == nil {
		keys, err = parse(text)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read keys from %s: %w", where, err)
	}
	return keys, age, nil
}

// fetch gets a key set by HTTP.
func (v *Verifier) fetch(ctx context.Context, url string) ([]byte, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := v.config.Client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the server answered with status %d", answer.StatusCode)
	}
	text, err := readAtMost(answer.Body)
	return text, v.age(answer.Header.Get("Cache-Control")), err
}

// age is for how long a response may be kept, within reason.
func (v *Verifier) age(control string) time.Duration {
	for directive := range strings.SplitSeq(control, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			return min(max(time.Duration(seconds)*time.Second, leastAge), greatAge)
		}
	}
	return v.config.Refresh
}

// readFile reads a regular file. To open anything else must not block either: a FIFO
// that nobody writes to would.
func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return readAtMost(f)
}

func readAtMost(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSet+1))
	if err == nil && len(text) > maxSet {
		err = fmt.Errorf("it is longer than %d bytes", maxSet)
	}
	return text, err
}

// parse reads a JSON Web Key Set. Keys that are not of use here are left out
// (RFC 7517 §5): other kinds, other uses, private and weak ones.
func parse(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !usable(&k) {
			continue
		}
		if out = append(out, k); len(out) > maxSetKeys {
			return nil, fmt.Errorf("it has more than %d keys", maxSetKeys)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it has no public key that signatures could be checked with")
	}
	return out, nil
}

func usable(k *jose.JSONWebKey) bool {
	if !k.Valid() || k.Use != "" && k.Use != "sig" {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}
