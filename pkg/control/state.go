package control

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// What a state directory holds.
const (
	StateCA     = "ca"     // the authority: root certificate and key, 0600
	StateTokens = "tokens" // <namespace>/<service account>, 0600
)

// Issue signs a certificate for p by the authority in stateDir and writes to
// outDir cert.pem (the chain), key.pem (0600) and bundle.pem (the roots), so
// that any HBONE peer can join the mesh. ttl 0 means 24h.
func Issue(stateDir string, p mesh.Principal, ttl time.Duration, outDir string) error {
	dir := filepath.Join(stateDir, StateCA)
	a, err := authority.Load(dir)
	if err != nil {
		return fmt.Errorf("open the authority: %w; is %s the state directory of a control plane?", err, stateDir)
	}
	setDefault(&ttl, 24*time.Hour)
	svid, err := a.Issue(p, ttl)
	if err != nil {
		return fmt.Errorf("issue a certificate for %v: %w", p, err)
	}
	if err := os.MkdirAll(outDir, 0o700); err != nil {
		return fmt.Errorf("issue a certificate for %v: %w", p, err)
	}
	return errors.Join(
		writeFile(filepath.Join(outDir, "key.pem"), svid.KeyPEM, 0o600),
		writeFile(filepath.Join(outDir, "cert.pem"), svid.CertPEM, 0o644),
		writeFile(filepath.Join(outDir, "bundle.pem"), svid.RootPEM, 0o644))
}

// IssueToken makes sure that dir holds a token for the service account and
// answers its path. A token that is there stays.
func IssueToken(dir, namespace, serviceAccount string) (string, error) {
	if _, err := mesh.ParsePrincipal(mesh.NewPrincipal("x", namespace, serviceAccount).String()); err != nil {
		return "", fmt.Errorf("token of %s/%s: %w", namespace, serviceAccount, err)
	}
	path := filepath.Join(dir, namespace, serviceAccount)
	if exists(dir, namespace, serviceAccount) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("token of %s/%s: %w", namespace, serviceAccount, err)
	}
	var secret [32]byte
	rand.Read(secret[:]) // never fails since Go 1.24
	return path, writeFile(path, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600)
}

// writeFile replaces path as a whole.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // hidden: readers of the directory pass it by
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}
