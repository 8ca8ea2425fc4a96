package control

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const (
	minToken  = 32 // characters; a file with fewer is not taken for a secret
	maxToken  = 8 << 10
	maxTokens = 100_000
	rereadMin = time.Second
)

// tokens knows the workloads by files <dir>/<namespace>/<service account>.
type tokens struct {
	dir         string
	trustDomain string
	logger      *slog.Logger

	mu     sync.Mutex // guards what follows
	known  []knownToken
	reread time.Time // when the files were last read
	warned map[string]bool
}

type knownToken struct {
	digest    [sha256.Size]byte
	principal mesh.Principal
}

// Authenticate compares with every token, and takes the same time whichever it is.
// An unknown one has the files read again, at most once a second: it may be new.
func (t *tokens) Authenticate(_ context.Context, token string) (mesh.Principal, error) {
	digest := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.find(digest)
	if p.IsZero() && time.Since(t.reread) >= rereadMin {
		t.read()
		p = t.find(digest)
	}
	if p.IsZero() {
		return p, ErrUnknownToken
	}
	return p, nil
}

func (t *tokens) find(digest [sha256.Size]byte) (found mesh.Principal) {
	for i := range t.known {
		if subtle.ConstantTimeCompare(t.known[i].digest[:], digest[:]) == 1 {
			found = t.known[i].principal
		}
	}
	return found
}

// load reads the files; a token whose file is gone is not valid any more.
func (t *tokens) load() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read()
}

func (t *tokens) read() {
	t.known, t.reread = nil, time.Now()
	namespaces, err := os.ReadDir(t.dir)
	if err != nil {
		t.warn(t.dir, "read tokens: "+err.Error())
		return
	}
	seen := map[[sha256.Size]byte]string{}
	for _, ns := range namespaces {
		if strings.HasPrefix(ns.Name(), ".") {
			continue
		}
		accounts, err := os.ReadDir(filepath.Join(t.dir, ns.Name()))
		if err != nil {
			t.warn(ns.Name(), "read tokens: "+err.Error())
			continue
		}
		for _, sa := range accounts {
			if !strings.HasPrefix(sa.Name(), ".") && len(t.known) < maxTokens {
				t.add(ns.Name(), sa.Name(), seen)
			}
		}
	}
}

func (t *tokens) add(namespace, account string, seen map[[sha256.Size]byte]string) {
	path := filepath.Join(t.dir, namespace, account)
	p, err := mesh.ParsePrincipal(mesh.NewPrincipal(t.trustDomain, namespace, account).String())
	if err != nil {
		t.warn(path, err.Error())
		return
	}
	data, err := readFile(path, maxToken+1)
	token := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		t.warn(path, "read token: "+err.Error())
		return
	case len(token) < minToken || len(data) > maxToken:
		t.warn(path, "a token has 32 to 8192 characters; make one with: openssl rand -hex 32")
		return
	}
	digest := sha256.Sum256([]byte(token))
	if other, ok := seen[digest]; ok {
		// Whoever holds it could be either: it is nobody's.
		t.warn(path, "the same token as in "+other+"; neither is accepted")
		t.forget(digest)
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		t.warn(path, "others can read this token; chmod 600 it")
	}
	seen[digest] = path
	t.known = append(t.known, knownToken{digest, p})
}

func (t *tokens) forget(digest [sha256.Size]byte) {
	for i := range t.known {
		if t.known[i].digest == digest {
			t.known = append(t.known[:i], t.known[i+1:]...)
			return
		}
	}
}

// warn logs a problem with a token file once.
func (t *tokens) warn(path, problem string) {
	if t.warned == nil {
		t.warned = map[string]bool{}
	}
	if !t.warned[path+problem] && len(t.warned) < maxTokens {
		t.warned[path+problem] = true
		t.logger.Warn("token file", "file", path, "problem", problem)
	}
}
