package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The names of an authority's files in its directory, as Istio names those of a plugged-in CA.
const (
	CertFile = "ca-cert.pem"
	KeyFile  = "ca-key.pem"
)

const maxFile = 64 << 10

// Save writes the root and its key to dir, which it makes if need be, so that
// only the owner can read them. Each file is replaced as a whole.
func (a *Authority) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	keyPEM, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(dir, KeyFile), keyPEM); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	if err := replace(filepath.Join(dir, CertFile), a.RootPEM()); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	return nil
}

// Load reads what Save wrote. The error wraps fs.ErrNotExist if nothing is there.
func Load(dir string) (*Authority, error) {
	root, err := loadRoot(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	key, err := loadKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if !key.PublicKey.Equal(root.PublicKey) {
		return nil, fmt.Errorf("load authority: %s and %s in %s do not belong together", CertFile, KeyFile, dir)
	}
	return &Authority{root.URIs[0].Host, root, key}, nil
}

func loadRoot(path string) (*x509.Certificate, error) {
	der, err := readBlock(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	if !root.IsCA || len(root.URIs) != 1 {
		return nil, fmt.Errorf("%s is not a SPIFFE root: it must be a CA with one URI name, spiffe://<trust domain>", path)
	}
	uri := root.URIs[0]
	if uri.Scheme != "spiffe" || uri.String() != "spiffe://"+uri.Host {
		return nil, fmt.Errorf("%s is not a SPIFFE root: its URI name is %q", path, uri)
	}
	if err := validTrustDomain(uri.Host); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return root, nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	der, err := readBlock(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, errors.New("not a PKCS#8 key"))
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", path, parsed)
	}
	return key, nil
}

func readBlock(path, kind string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	block, rest := pem.Decode(data)
	if len(data) > maxFile || block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s does not hold exactly one PEM block of type %s", path, kind)
	}
	return block.Bytes, nil
}

// replace writes path by way of a temporary file beside it, so that a crash
// leaves the old content or the new.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
