package token

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

func TestOnlyRegularFilesOfSomeSizeAreRead(t *testing.T) {
	dir := t.TempDir()
	fifo, huge := filepath.Join(dir, "fifo"), filepath.Join(dir, "huge")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]string{
		fifo: "not a regular file", "/dev/zero": "not a regular file", dir: "not a regular file",
		huge: "longer than", filepath.Join(dir, "none"): "no such file",
	} {
		if text, err := readFile(name); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

// A clock may be set, forward and back.
func TestARememberedTokenObeysTheClock(t *testing.T) {
	m := newMint(t, "k1")
	v, rules, now := newVerifier(t, Config{}), accepting(policy.Issuer{Keys: m.set()}), time.Now()
	raw := m.sign(with("nbf", now.Add(-time.Minute).Unix()), nil)
	for at, valid := range map[time.Duration]bool{0: true, -80 * time.Second: true, -2 * time.Minute: false, time.Hour: true, 2 * time.Hour: false} {
		if _, err := v.Verify(t.Context(), raw, rules); err != nil {
			t.Fatal(err)
		}
		if got := v.recall(t.Context(), fingerprint{sha256.Sum256([]byte(raw)), rules}, now.Add(at)); (got != nil) != valid {
			t.Errorf("%v from now: %v", at, got)
		}
	}
}
