package token

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxTries is how many keys a token without key id is tried with.
const maxTries = 16

// check validates a token from its text.
func (v *Verifier) check(ctx context.Context, raw string, rules *policy.Tokens, now time.Time) (known, error) {
	accepted := signatureAlgorithms(rules)
	signed, err := jose.ParseSignedCompact(raw, accepted)
	if err != nil {
		return known{}, invalid("it is no JSON Web Token with a signature that is accepted")
	}
	header := signed.Signatures[0].Protected
	if !isAccessType(header.ExtraHeaders[jose.HeaderType]) {
		return known{}, invalid("its type is not that of an access token")
	}
	claimed, err := readClaims(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return known{}, err
	}
	failure := invalid("its issuer is not accepted")
	for i := range rules.Issuers {
		issuer := &rules.Issuers[i]
		if issuer.Name != claimed.issuer || !accepts(issuer, header.Algorithm) {
			continue
		}
		// The audience comes first: a token for somebody else is none of our keys' business.
		if failure = claimed.valid(issuer, now, v.config.Leeway); failure != nil {
			continue
		}
		set, generation, err := v.verifySignature(ctx, signed, issuer, now)
		if err == nil {
			return known{claimed.token(), set, generation}, nil
		}
		failure = err
	}
	return known{}, failure
}

// verifySignature tries the issuer's keys that the token could be signed with.
func (v *Verifier) verifySignature(ctx context.Context, signed *jose.JSONWebSignature, issuer *policy.Issuer, now time.Time) (*keySet, uint64, error) {
	header := signed.Signatures[0].Protected
	set := v.set(issuer)
	if set == nil {
		return nil, 0, fmt.Errorf("%w: the verifier was closed", ErrNoKeys)
	}
	keys, generation, err := v.keys(ctx, set, now)
	if err != nil {
		return nil, 0, err
	}
	candidates := fitting(keys, header.KeyID, header.Algorithm)
	if len(candidates) == 0 {
		if keys, generation, err = v.renewed(ctx, set, generation); err != nil {
			return nil, 0, err
		}
		candidates = fitting(keys, header.KeyID, header.Algorithm)
	}
	for i := range candidates {
		// The signature is over the very bytes that the claims were read from.
		if _, err := signed.Verify(candidates[i].Key); err == nil {
			return set, generation, nil
		}
	}
	if len(candidates) == 0 {
		return nil, 0, invalid("its issuer has no such key")
	}
	return nil, 0, invalid("its signature does not fit")
}

// fitting are the keys that a signature may be made with: one key with the id, or
// any if the token names none.
func fitting(keys []jose.JSONWebKey, id, algorithm string) []jose.JSONWebKey {
	var out []jose.JSONWebKey
	for _, k := range keys {
		if id != "" && k.KeyID != id || k.Algorithm != "" && k.Algorithm != algorithm {
			continue
		}
		if out = append(out, k); len(out) == maxTries {
			break
		}
	}
	return out
}

// signatureAlgorithms are those that some issuer may use.
func signatureAlgorithms(rules *policy.Tokens) []jose.SignatureAlgorithm {
	var out []jose.SignatureAlgorithm
	for _, name := range policy.SignatureAlgorithms() {
		if slices.ContainsFunc(rules.Issuers, func(i policy.Issuer) bool { return accepts(&i, name) }) {
			out = append(out, jose.SignatureAlgorithm(name))
		}
	}
	return out
}

func accepts(issuer *policy.Issuer, algorithm string) bool {
	return len(issuer.Algorithms) == 0 || slices.Contains(issuer.Algorithms, algorithm)
}

// isAccessType tells whether "typ" may be that of an access token (RFC 9068 §2.1,
// RFC 8725 §3.11): a token that was made for another use must not do here.
func isAccessType(typ any) bool {
	if typ == nil {
		return true
	}
	text, ok := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(text), "application/") {
	case "jwt", "at+jwt":
		return ok
	}
	return false
}

// claims are what a token says, whoever signed it.
type claims struct {
	issuer, subject string
	audiences       []string
	expires, before float64 // NaN: not said
	bound           bool    // to a key that its bearer would have to prove
	all             map[string]any
}

// readClaims reads the payload, strictly: no name may appear twice.
func readClaims(payload []byte) (claims, error) {
	c := claims{expires: math.NaN(), before: math.NaN()}
	if err := json.Unmarshal(payload, &c.all); err != nil || c.all == nil {
		return c, invalid("its claims are no JSON object")
	}
	c.issuer, _ = c.all["iss"].(string)
	c.subject, _ = c.all["sub"].(string)
	switch v := c.all["aud"].(type) {
	case string:
		c.audiences = []string{v}
	case []any:
		for _, one := range v {
			text, ok := one.(string)
			if !ok {
				return c, invalid("its audience is not text")
			}
			c.audiences = append(c.audiences, text)
		}
	}
	for name, to := range map[string]*float64{"exp": &c.expires, "nbf": &c.before} {
		if v, said := c.all[name]; said {
			number, ok := v.(float64)
			if !ok {
				return c, invalid("its %s is not a number", name)
			}
			*to = number
		}
	}
	_, c.bound = c.all["cnf"]
	return c, nil
}

// maxTime bounds what is taken for a time, in seconds since 1970.
const maxTime = 1 << 40

// valid tells what is wrong with the claims, but for the signature.
func (c *claims) valid(issuer *policy.Issuer, now time.Time, leeway time.Duration) error {
	at, slack := float64(now.UnixMilli())/1000, leeway.Seconds()
	switch {
	case !slices.ContainsFunc(c.audiences, func(a string) bool { return slices.Contains(issuer.Audiences, a) }):
		return invalid("it was issued for another audience")
	case math.IsNaN(c.expires) || c.expires > maxTime:
		return invalid("it never expires")
	case at >= c.expires+slack:
		return invalid("it has expired")
	case !math.IsNaN(c.before) && at < c.before-slack:
		return invalid("it is not valid yet")
	case c.bound:
		return invalid("it is bound to a key, and proofs of possession are not understood here")
	}
	return nil
}

func (c *claims) token() *Token {
	t := &Token{Issuer: c.issuer, Subject: c.subject, Claims: c.all, Expires: time.UnixMilli(int64(c.expires * 1000))}
	if !math.IsNaN(c.before) {
		t.NotBefore = time.UnixMilli(int64(max(c.before, 0) * 1000))
	}
	return t
}

// Bearer is the token of an Authorization header. present is false if the header
// uses another scheme or is empty; what is after the scheme may be anything.
func Bearer(authorization string) (raw string, present bool) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.Trim(rest, " \t"), true
}

// Reason is what is wrong with a token, without ErrInvalid's words.
func Reason(err error) string {
	if errors.Is(err, ErrInvalid) {
		_, reason, _ := strings.Cut(err.Error(), ": ")
		return reason
	}
	return ErrNoKeys.Error()
}
