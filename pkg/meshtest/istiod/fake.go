package istiod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// A Fake is Istio's FakeDiscoveryServer in a process of its own: istiod's
// discovery code, in plaintext, without authentication and without a CA.
type Fake struct {
	Plain string // host:port of xDS in plaintext

	process *process
	mu      sync.Mutex // guards what follows: one command at a time
	in      io.WriteCloser
	answers *bufio.Reader
	out     *os.File // answers read it
}

// StartFake runs a fake until the test ends, with more variables KEY=value.
func StartFake(t testing.TB, environment ...string) *Fake {
	t.Helper()
	programs, err := Programs()
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFake(programs, t.TempDir(), environment)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("---- end of %s\n%s", f.process.log, f.process.tail(20))
		}
		f.close()
	})
	return f
}

func newFake(programs, dir string, environment []string) (*Fake, error) {
	out, answers, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer answers.Close() // the program has its own
	cmd := exec.Command(filepath.Join(programs, "fake"))
	cmd.Env = append([]string{"PILOT_ENABLE_AMBIENT=true"}, environment...)
	cmd.ExtraFiles = []*os.File{answers}
	in, err := cmd.StdinPipe()
	if err != nil {
		out.Close()
		return nil, err
	}
	p, err := launch("fake", dir, cmd)
	if err != nil {
		out.Close()
		return nil, err
	}
	f := &Fake{process: p, in: in, answers: bufio.NewReader(out), out: out}
	var hello struct {
		Address string `json:"address"`
	}
	if err := f.read(&hello); err != nil {
		f.close()
		return nil, fmt.Errorf("start fake: %w:\n%s", err, p.tail(10))
	}
	f.Plain = hello.Address
	return f, nil
}

func (f *Fake) close() {
	f.in.Close()
	f.process.stop()
	f.out.Close()
}

// Apply puts the objects in YAML documents into the fake's Kubernetes.
func (f *Fake) Apply(ctx context.Context, documents string) error {
	return f.all(ctx, "apply", documents)
}

// Delete removes the objects that YAML documents name.
func (f *Fake) Delete(ctx context.Context, documents string) error {
	return f.all(ctx, "delete", documents)
}

func (f *Fake) all(ctx context.Context, verb, documents string) error {
	objects, err := Parse(documents)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := errors.Join(ctx.Err(), f.command(verb, o)); err != nil {
			return fmt.Errorf("%s %v: %w", verb, o, err)
		}
	}
	return nil
}

func (f *Fake) command(verb string, o Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	line, err := json.Marshal(map[string]any{"verb": verb, "object": o})
	if err != nil {
		return err
	}
	if _, err := f.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the fake has ended: %w", err)
	}
	var answer struct {
		Error string `json:"error"`
	}
	if err := f.read(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

func (f *Fake) read(answer any) error {
	if err := f.out.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	line, err := f.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return json.Unmarshal(line, answer)
}
