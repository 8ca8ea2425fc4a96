package demo

import (
	"context"
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

// A process is one program of the mesh.
type process struct {
	name string
	log  string // file with everything it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// launch starts a program; what it prints goes to logs/<name>.log.
func (m *stage) launch(name, program string, args ...string) (*process, error) {
	path, err := m.program(program)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(m.file("logs", name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p := &process{name: name, log: log.Name(), cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = environment()
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	m.processes = append(m.processes, p)
	return p, nil
}

// environment is ours without what would configure a sidecar behind our back.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
}

func (m *stage) program(name string) (string, error) {
	dir := m.config.Programs
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(self)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("program %s is neither in %s nor in PATH: build it with `make build`, or name its directory with --programs", name, dir)
}

// verdicts is how many times in a row a process may blame a file before we
// believe that it will not get ready by itself.
const verdicts = 10

// ready waits until url answers 200, or says why that will not be. blame is a
// file that, if it is named by the answer, is what must be mended.
func (p *process) ready(ctx context.Context, url, blame string) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	start, last, blamed := time.Now(), "no answer", 0
	for {
		text, ok := probe(ctx, client, url)
		if ok {
			return nil
		}
		if text != "" {
			last = text
		}
		if blame == "" || !strings.Contains(text, blame) {
			blamed = 0
		} else if blamed++; blamed == verdicts {
			return fmt.Errorf("%s does not accept its configuration: %s", p.name, text)
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %s\n%s", p.name, time.Since(start).Round(time.Second), last, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func probe(ctx context.Context, client *http.Client, url string) (text string, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error(), false
	}
	res, err := client.Do(req)
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1024))
	return strings.TrimSpace(string(body)), res.StatusCode == http.StatusOK
}

// tail is the end of what the process printed.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// stop asks the process to end, and insists after a while.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(8 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}
