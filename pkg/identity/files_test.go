package identity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/authority"
	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// A volume is a directory that holds an SVID as Kubernetes projects it: the
// files are links through ..data, which is swapped.
type volume struct {
	t   *testing.T
	dir string
}

func (v *volume) path(name string) string { return filepath.Join(v.dir, name) }

// project swaps in the files, all at once.
func (v *volume) project(version string, files map[string][]byte) {
	v.t.Helper()
	old, _ := os.Readlink(v.path("..data"))
	do(v.t, os.MkdirAll(v.path(version), 0o755))
	for name, content := range files {
		do(v.t, os.WriteFile(filepath.Join(v.path(version), name), content, 0o600))
		if _, err := os.Lstat(v.path(name)); err != nil {
			do(v.t, os.Symlink(filepath.Join("..data", name), v.path(name)))
		}
	}
	do(v.t, os.Symlink(version, v.path("..tmp")))
	do(v.t, os.Rename(v.path("..tmp"), v.path("..data")))
	if old != "" {
		do(v.t, os.RemoveAll(v.path(old)))
	}
}

func files(s *authority.IssuedSVID) map[string][]byte {
	return map[string][]byte{"cert.pem": s.CertPEM, "key.pem": s.KeyPEM, "root.pem": s.RootPEM}
}

func (v *volume) config() FilesConfig {
	return FilesConfig{Cert: v.path("cert.pem"), Key: v.path("key.pem"), Bundle: v.path("root.pem"), Principal: planner, Logger: quiet}
}

func ends(at time.Time) func(*SVID, error) bool {
	return func(s *SVID, err error) bool { return err == nil && s.NotAfter.Equal(at.Truncate(time.Second)) }
}

// life makes certificates that can be told from each other by their end.
func life(t *testing.T, a *authority.Authority, hours int) (*authority.IssuedSVID, func(*SVID, error) bool) {
	t.Helper()
	i := must(a.Issue(planner, time.Duration(hours)*time.Hour))
	s := must(ParseSVID(i.CertPEM, i.KeyPEM, i.RootPEM))
	return i, ends(s.NotAfter)
}

func TestFilesFollowTheSwapsOfAVolume(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	source := must(NewFiles(v.config()))
	background(t, source.Run)
	if _, err := source.SVID(); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("without files: %v", err)
	}
	for i, version := range []string{"..1", "..2", "..3"} {
		svid, is := life(t, a, i+1)
		v.project(version, files(svid))
		await(t, source, is)
	}
	do(t, source.Err())
}

func TestFilesThatDoNotFitTogetherDisplaceNothing(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	first, isFirst := life(t, a, 1)
	v.project("..1", files(first))
	source := must(NewFiles(v.config()))
	source.load()
	good, err := source.SVID()
	do(t, err)
	second, isSecond := life(t, a, 2)
	stranger := must(newAuthority(t, local).Issue(planner, time.Hour))
	somebody := must(a.Issue(github, time.Hour))
	brief := must(a.Issue(planner, time.Nanosecond))
	for name, c := range map[string]map[string][]byte{
		"key before certificate": {"cert.pem": first.CertPEM, "key.pem": second.KeyPEM, "root.pem": first.RootPEM},
		"certificate before key": {"cert.pem": second.CertPEM, "key.pem": first.KeyPEM, "root.pem": first.RootPEM},
		"certificate cut off":    {"cert.pem": second.CertPEM[:200], "key.pem": second.KeyPEM, "root.pem": first.RootPEM},
		"empty key":              {"cert.pem": second.CertPEM, "key.pem": nil, "root.pem": first.RootPEM},
		"empty roots":            {"cert.pem": second.CertPEM, "key.pem": second.KeyPEM, "root.pem": nil},
		"other roots":            {"cert.pem": second.CertPEM, "key.pem": second.KeyPEM, "root.pem": stranger.RootPEM},
		"another identity":       {"cert.pem": somebody.CertPEM, "key.pem": somebody.KeyPEM, "root.pem": first.RootPEM},
		"ended":                  {"cert.pem": brief.CertPEM, "key.pem": brief.KeyPEM, "root.pem": first.RootPEM},
		"key file as roots":      {"cert.pem": second.CertPEM, "key.pem": second.KeyPEM, "root.pem": second.KeyPEM},
	} {
		v.project("..bad", c)
		source.load()
		if s, err := source.SVID(); s != good || source.Err() == nil {
			t.Errorf("%s: %v, %v; alarm %v", name, s, err, source.Err())
		}
		v.project("..good", files(first))
		source.load()
		if s, err := source.SVID(); !isFirst(s, err) {
			t.Errorf("after %s: %v", name, err)
		}
	}
	v.project("..2", files(second))
	source.load()
	if s, err := source.SVID(); !isSecond(s, err) || source.Err() != nil {
		t.Errorf("at last: %v, alarm %v", err, source.Err())
	}
}

func TestFilesReplacedOneByOneAreTakenWhenTheyFit(t *testing.T) {
	a := newAuthority(t, local)
	v := &volume{t, t.TempDir()}
	first, isFirst := life(t, a, 1)
	for name, content := range files(first) {
		do(t, os.WriteFile(v.path(name), content, 0o600))
	}
	source := must(NewFiles(v.config()))
	background(t, source.Run)
	await(t, source, isFirst)
	second, isSecond := life(t, a, 2)
	do(t, os.WriteFile(v.path("key.pem"), second.KeyPEM, 0o600))
	until(t, func() bool { return source.Err() != nil }) // the half-written pair was seen
	if s, err := source.SVID(); !isFirst(s, err) {
		t.Errorf("while they do not fit: %v", err)
	}
	do(t, os.WriteFile(v.path("cert.pem"), second.CertPEM, 0o600))
	await(t, source, isSecond)
}

func TestFilesKeepTheFederationOfTheirConfig(t *testing.T) {
	a, partner := newAuthority(t, local), newAuthority(t, remote)
	v := &volume{t, t.TempDir()}
	svid, _ := life(t, a, 1)
	v.project("..1", files(svid))
	c := v.config()
	c.Federated = map[string]string{remote: v.path("partner.pem")}
	do(t, os.WriteFile(v.path("partner.pem"), partner.RootPEM(), 0o600))
	source := must(NewFiles(c))
	background(t, source.Run)
	s := await(t, source, func(s *SVID, err error) bool { return err == nil && s.Bundles[remote] != nil })
	m := &Mutual{Source: NewMemory(s)}
	admitted(t, m, issue(t, partner, mesh.NewPrincipal(remote, "a", "b"), time.Hour))
}

func TestNewFilesSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]FilesConfig{
		"cert":   {Key: "k", Bundle: "b", Logger: quiet},
		"key":    {Cert: "c", Bundle: "b", Logger: quiet},
		"bundle": {Cert: "c", Key: "k", Logger: quiet},
		"logger": {Cert: "c", Key: "k", Bundle: "b"},
	} {
		if _, err := NewFiles(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
