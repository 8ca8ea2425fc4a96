package istiod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopTime is how long a program may take to end before it is killed.
const stopTime = 10 * time.Second

// A process is one running program, in a process group of its own.
type process struct {
	name string
	log  string // file with everything it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// launch starts cmd in dir, which also gets its log.
func launch(name, dir string, cmd *exec.Cmd) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer log.Close() // the program has its own
	p := &process{name: name, log: log.Name(), cmd: cmd, done: make(chan struct{})}
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = dir, log, attributes()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+os.TempDir())
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// stop asks the program to end, and insists after a while.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.done:
	case <-time.After(stopTime):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group; fails if all have ended
	<-p.done
}

// errEnded means that a program ended before it was ready.
var errEnded = errors.New("it ended before it was ready")

// ready waits until client gets 200 from url.
func (p *process) ready(ctx context.Context, client *http.Client, url string) error {
	for {
		last := get(ctx, client, url)
		if last == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s: %w:\n%s", p.name, errEnded, p.tail(10))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w:\n%s", p.name, last, p.tail(10))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(io.LimitReader(response.Body, 1024)); response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil
}

// tail is the last lines of what the program printed.
func (p *process) tail(lines int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
