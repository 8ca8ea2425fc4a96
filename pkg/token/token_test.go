package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A mint signs tokens with one key.
type mint struct {
	t   testing.TB
	id  string
	key *ecdsa.PrivateKey
}

func newMint(t testing.TB, id string) *mint {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &mint{t, id, key}
}

func (m *mint) set() string {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: m.key.Public(), KeyID: m.id, Use: "sig"}}})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

func (m *mint) sign(claims map[string]any, header map[jose.HeaderKey]any) string {
	m.t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.signText(string(text), header)
}

func (m *mint) signText(payload string, header map[jose.HeaderKey]any) string {
	m.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: m.key, KeyID: m.id}},
		&jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		m.t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

const issuer, audience = "https://id.example", "https://tools.example/mcp"

func good() map[string]any {
	return map[string]any{"iss": issuer, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "scope": "a b"}
}

func with(name string, value any) map[string]any {
	c := good()
	if value == nil {
		delete(c, name)
	} else {
		c[name] = value
	}
	return c
}

func accepting(keys policy.Issuer) *policy.Tokens {
	keys.Name, keys.Audiences = issuer, []string{"other", audience}
	return &policy.Tokens{Issuers: []policy.Issuer{keys}}
}

func newVerifier(t testing.TB, c Config) *Verifier {
	v := New(c)
	t.Cleanup(v.Close)
	return v
}

func TestOnlyValidTokensAreAccepted(t *testing.T) {
	m, other := newMint(t, "k1"), newMint(t, "k1")
	now := time.Now()
	valid := m.sign(good(), nil)
	parts := strings.Split(valid, ".")
	encode := base64.RawURLEncoding.EncodeToString
	confused := encode([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + parts[1]
	for name, c := range map[string]struct {
		raw    string
		reason string // "": valid
	}{
		"valid":               {valid, ""},
		"audience in list":    {m.sign(with("aud", []string{"x", audience}), nil), ""},
		"access token":        {m.sign(good(), map[jose.HeaderKey]any{"typ": "AT+JWT"}), ""},
		"just expired":        {m.sign(with("exp", now.Add(-10*time.Second).Unix()), nil), ""},
		"soon valid":          {m.sign(with("nbf", now.Add(10*time.Second).Unix()), nil), ""},
		"another issuer":      {m.sign(with("iss", issuer+"/"), nil), "its issuer is not accepted"},
		"no issuer":           {m.sign(with("iss", nil), nil), "its issuer is not accepted"},
		"another audience":    {m.sign(with("aud", "https://tools.example"), nil), "it was issued for another audience"},
		"no audience":         {m.sign(with("aud", nil), nil), "it was issued for another audience"},
		"audience not text":   {m.sign(with("aud", []any{audience, 1}), nil), "its audience is not text"},
		"expired":             {m.sign(with("exp", now.Add(-time.Minute).Unix()), nil), "it has expired"},
		"eternal":             {m.sign(with("exp", nil), nil), "it never expires"},
		"as good as eternal":  {m.sign(with("exp", 1e300), nil), "it never expires"},
		"expiry in words":     {m.sign(with("exp", "tomorrow"), nil), "its exp is not a number"},
		"not yet":             {m.sign(with("nbf", now.Add(time.Minute).Unix()), nil), "it is not valid yet"},
		"bound":               {m.sign(with("cnf", map[string]any{"jkt": "x"}), nil), "it is bound to a key, and proofs of possession are not understood here"},
		"another use":         {m.sign(good(), map[jose.HeaderKey]any{"typ": "secevent+jwt"}), "its type is not that of an access token"},
		"another key":         {other.sign(good(), nil), "its signature does not fit"},
		"unknown key":         {newMint(t, "k2").sign(good(), nil), "its issuer has no such key"},
		"claims twice":        {m.signText(`{"iss":"`+issuer+`","aud":"`+audience+`","exp":9999999999,"exp":9999999999}`, nil), "its claims are no JSON object"},
		"claims are no JSON":  {m.signText(`hello`, nil), "its claims are no JSON object"},
		"signature cut":       {parts[0] + "." + parts[1] + ".", "its signature does not fit"},
		"claims exchanged":    {parts[0] + "." + strings.Split(m.sign(with("sub", "root"), nil), ".")[1] + "." + parts[2], "its signature does not fit"},
		"algorithm none":      {encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "it is no JSON Web Token with a signature that is accepted"},
		"algorithm symmetric": {confused + "." + parts[2], "it is no JSON Web Token with a signature that is accepted"},
		"critical extension":  {m.sign(good(), map[jose.HeaderKey]any{"crit": []string{"x"}, "x": 1}), "its signature does not fit"},
		"opaque":              {"s3cr3t", "it is no JSON Web Token with a signature that is accepted"},
		"empty":               {"", "it is no JSON Web Token with a signature that is accepted"},
		"long":                {strings.Repeat("x", MaxBytes+1), fmt.Sprintf("it is longer than %d bytes", MaxBytes)},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, Config{})
			for range 2 { // the second time from memory, if it was valid
				got, err := v.Verify(t.Context(), c.raw, accepting(policy.Issuer{Keys: m.set()}))
				if c.reason == "" {
					if err != nil || got.Subject != "alice" || got.Issuer != issuer || got.Claims["scope"] != "a b" {
						t.Fatalf("got %+v, %v", got, err)
					}
				} else if !errors.Is(err, ErrInvalid) || Reason(err) != c.reason {
					t.Fatalf("got %+v, %q, want %q", got, err, c.reason)
				}
			}
		})
	}
}

func TestAlgorithmsAreTheIssuers(t *testing.T) {
	m := newMint(t, "k1")
	v := newVerifier(t, Config{})
	_, err := v.Verify(t.Context(), m.sign(good(), nil), accepting(policy.Issuer{Keys: m.set(), Algorithms: []string{"RS256"}}))
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestEmbeddedKeysAreNotTrusted(t *testing.T) {
	m, forger := newMint(t, "k1"), newMint(t, "k1")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: forger.key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(good())
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := signed.CompactSerialize()
	if _, err := newVerifier(t, Config{}).Verify(t.Context(), raw, accepting(policy.Issuer{Keys: m.set()})); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestKeysOfNoUseAreLeftOut(t *testing.T) {
	m := newMint(t, "k1")
	inner := strings.TrimSuffix(strings.TrimPrefix(m.set(), `{"keys":[`), `]}`)
	for name, c := range map[string]struct {
		keys string
		want int
	}{
		"one":                 {m.set(), 1},
		"beside others":       {`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"future"},{"kty":"RSA","n":"AQAB","e":"AQAB"},` + inner + `,3]}`, 1},
		"for encryption":      {strings.ReplaceAll(m.set(), `"sig"`, `"enc"`), 0},
		"none":                {`{"keys":[]}`, 0},
		"not a set":           {`[]`, 0},
		"not JSON":            {`{`, 0},
		"too many":            {`{"keys":[` + strings.Repeat(inner+",", maxSetKeys) + inner + `]}`, 0},
		"private, by mistake": {privateSet(t, m), 0},
	} {
		keys, err := parse([]byte(c.keys))
		if len(keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

func privateSet(t *testing.T, m *mint) string {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: m.key, KeyID: m.id}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := newMint(t, "k1"), newMint(t, "k2")
		file := filepath.Join(t.TempDir(), "keys.json")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v := newVerifier(t, Config{})
		rules := accepting(policy.Issuer{KeysFile: file})
		if _, err := v.Verify(t.Context(), old.sign(good(), nil), rules); !errors.Is(err, ErrNoKeys) {
			t.Errorf("without a file: %v", err)
		}
		time.Sleep(2 * firstPause)
		write(old.set())
		token := old.sign(good(), nil)
		if _, err := v.Verify(t.Context(), token, rules); err != nil {
			t.Error(err)
		}
		write(next.set())
		time.Sleep(fileTime + time.Second)
		v.Verify(t.Context(), token, rules) // has it read again
		synctest.Wait()
		if _, err := v.Verify(t.Context(), next.sign(good(), nil), rules); err != nil {
			t.Error(err)
		}
		if _, err := v.Verify(t.Context(), token, rules); !errors.Is(err, ErrInvalid) {
			t.Errorf("a token of a key that is gone: %v", err)
		}
		v.Close()
	})
}

// A set may end between its being found and its keys being asked for.
func TestAnEndedSetSaysWhyItHasNoKeys(t *testing.T) {
	v := New(Config{})
	defer v.Close()
	s := &keySet{source: source{text: "{}"}}
	s.end()
	if _, _, err := v.keys(t.Context(), s, time.Now()); !errors.Is(err, ErrNoKeys) || !errors.Is(err, errEnded) {
		t.Errorf("%v", err)
	}
}

// A server of key sets, without a network.
type keyServer struct {
	asked atomic.Int32
	reply func() (status int, header, body string)
}

func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	status, header, body := s.reply()
	if status == 0 {
		return nil, errors.New("unreachable")
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Cache-Control": {header}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestKeysAreFetchedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := newMint(t, "k1"), newMint(t, "k2")
		status, set := 200, old.set()
		server := &keyServer{reply: func() (int, string, string) { return status, "public, max-age=600", set }}
		v := newVerifier(t, Config{Client: &http.Client{Transport: server}})
		rules := accepting(policy.Issuer{KeysURL: "https://id.example/keys"})
		verify := func(raw string) error { _, err := v.Verify(t.Context(), raw, rules); return err }
		far := map[string]any{"iss": issuer, "aud": audience, "exp": time.Now().Add(1000 * time.Hour).Unix()}
		token := old.sign(far, nil)
		for range 100 {
			if err := verify(token); err != nil {
				t.Fatal(err)
			}
		}
		if n := server.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		// A key that is not there has it fetched again, but not by every stranger.
		time.Sleep(renewAfter)
		for range 100 {
			if err := verify(next.sign(far, nil)); !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
		}
		if n := server.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		// While the issuer is away the keys stay, and it is left alone more and more.
		status = 0
		time.Sleep(601 * time.Second)
		for range 3600 {
			if err := verify(token); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := server.asked.Load(); n < 10 || n > 30 {
			t.Errorf("asked %d times in an hour of failures", n)
		}
		// But not for ever.
		time.Sleep(24 * time.Hour)
		if err := verify(token); !errors.Is(err, ErrNoKeys) {
			t.Errorf("after a day: %v", err)
		}
		status, set = 200, next.set()
		time.Sleep(lastPause + time.Second)
		if err := verify(next.sign(far, nil)); err != nil {
			t.Error(err)
		}
		v.Close()
		if err := verify(token); err == nil {
			t.Error("valid after Close")
		}
	})
}

func TestManyCallersShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMint(t, "k1")
		server := &keyServer{reply: func() (int, string, string) { time.Sleep(time.Second); return 200, "", m.set() }}
		v := newVerifier(t, Config{Client: &http.Client{Transport: server}})
		rules := accepting(policy.Issuer{KeysURL: "https://id.example/keys"})
		var failed atomic.Int32
		for i := range 50 {
			go func() {
				if _, err := v.Verify(t.Context(), m.sign(with("jti", fmt.Sprint(i)), nil), rules); err != nil {
					failed.Add(1)
				}
			}()
		}
		hurried, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := v.Verify(hurried, m.sign(good(), nil), rules); !errors.Is(err, ErrNoKeys) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who cannot wait: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := server.asked.Load(); n != 1 || failed.Load() != 0 {
			t.Errorf("asked %d times, %d failed", n, failed.Load())
		}
		v.Close()
	})
}

func TestOnlyWholeAnswersAreTaken(t *testing.T) {
	m := newMint(t, "k1")
	for name, handler := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/there" {
				io.WriteString(w, m.set())
				return
			}
			http.Redirect(w, r, "/there", http.StatusFound)
		},
		"error": func(w http.ResponseWriter, r *http.Request) { http.Error(w, m.set(), 500) },
		"too long": func(w http.ResponseWriter, r *http.Request) {
			w.Write(bytes.Repeat([]byte(" "), maxSet))
			io.WriteString(w, m.set())
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			v := newVerifier(t, Config{})
			if _, err := v.Verify(t.Context(), m.sign(good(), nil), accepting(policy.Issuer{KeysURL: server.URL})); !errors.Is(err, ErrNoKeys) {
				t.Errorf("got %v", err)
			}
		})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, m.set()) }))
	defer server.Close()
	if _, err := newVerifier(t, Config{}).Verify(t.Context(), m.sign(good(), nil), accepting(policy.Issuer{KeysURL: server.URL})); err != nil {
		t.Error(err)
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	m := newMint(t, "k1")
	v := newVerifier(t, Config{Tokens: 16})
	rules := accepting(policy.Issuer{Keys: m.set()})
	for i := range 100 {
		if _, err := v.Verify(t.Context(), m.sign(with("jti", fmt.Sprint(i)), nil), rules); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.known) > 16 {
		t.Errorf("%d are remembered", len(v.known))
	}
}

func TestBearerReadsTheScheme(t *testing.T) {
	for _, c := range []struct {
		in, raw string
		present bool
	}{{"Bearer a.b.c", "a.b.c", true}, {"bearer  x ", "x", true}, {"Bearer", "", true}, {"Basic x", "", false}, {"DPoP x", "", false}, {"", "", false}} {
		if raw, present := Bearer(c.in); raw != c.raw || present != c.present {
			t.Errorf("%q: %q, %v", c.in, raw, present)
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := newMint(f, "k1")
	rules := accepting(policy.Issuer{Keys: m.set()})
	valid := m.sign(good(), nil)
	v := newVerifier(f, Config{})
	f.Add(valid)
	f.Add("e30.e30.e30")
	f.Add(valid + "=")
	f.Fuzz(func(t *testing.T, raw string) {
		// An ECDSA signature can be written in other ways, what it signs cannot.
		if _, err := v.Verify(t.Context(), raw, rules); err == nil && raw[:strings.LastIndexByte(raw, '.')] != valid[:strings.LastIndexByte(valid, '.')] {
			t.Fatalf("valid: %q", raw)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(newMint(f, "k1").set()))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parse(text)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m := newMint(b, "k1")
	raw := m.sign(good(), nil)
	rules := accepting(policy.Issuer{Keys: m.set()})
	b.Run("remembered", func(b *testing.B) {
		v := newVerifier(b, Config{})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), raw, rules); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		v := newVerifier(b, Config{})
		b.ReportAllocs()
		for b.Loop() {
			clear(v.known)
			if _, err := v.Verify(b.Context(), raw, rules); err != nil {
				b.Fatal(err)
			}
		}
	})
}
