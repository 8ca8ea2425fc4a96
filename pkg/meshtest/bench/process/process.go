// Package process starts programs to be measured, and reads from the kernel
// what they have cost. It does not know what they do.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a program may take until it answers.
	startTimeout = 30 * time.Second
	// stopTimeout is how long it may take to end before it is killed.
	stopTimeout = 8 * time.Second
)

// A Process is one running program.
type Process struct {
	Name string
	PID  int

	log  string // file with everything it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// A Group is programs that end together.
type Group struct {
	Dir string // for their logs

	mu  sync.Mutex // guards what follows
	all []*Process
}

// Launch starts a program. What it prints goes to <name>.log in the group's
// directory. It ends with the thread that calls: lock the goroutine to it.
func (g *Group) Launch(name, path string, args ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(g.Dir, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer log.Close() // the child has its own
	p := &Process{Name: name, log: log.Name(), cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.PID = p.cmd.Process.Pid
	if err := raiseFiles(p.PID); err != nil {
		return nil, errors.Join(fmt.Errorf("let %s open more files: %w", name, err), p.cmd.Process.Kill(), p.cmd.Wait())
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, p)
	return p, nil
}

// Stop ends the programs, the last one first.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range slices.Backward(g.all) {
		p.Stop()
	}
	g.all = nil
}

// Kill ends the programs at once. Stop must still be called.
func (g *Group) Kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.all {
		_ = p.cmd.Process.Kill() // fails if it has ended
	}
}

// Stop asks the program to end, and insists after a while.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Listening waits until the program accepts connections on address.
func (p *Process) Listening(ctx context.Context, address string) error {
	return p.until(ctx, func(ctx context.Context) error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// Ready waits until url answers 200.
func (p *Process) Ready(ctx context.Context, url string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return p.until(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

func (p *Process) until(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %s", p.Name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.Name, err, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of what the program printed.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
