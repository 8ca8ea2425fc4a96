package tunnels

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/meshtest/bench/baseline"
)

// A visit is an MCP session on a connection of its own, without an SDK, so that the
// client costs little.
type visit struct {
	conn net.Conn
	in   *bufio.Reader
	id   string // of the session
}

type visits []*visit

func (all visits) close() {
	for _, v := range all {
		v.conn.Close()
	}
}

// enter connects to address and opens a session.
func enter(ctx context.Context, address string) (v *visit, err error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	v = &visit{conn: conn, in: bufio.NewReaderSize(conn, 2<<10)}
	_ = conn.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
	err = v.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`, baseline.InitializeID), 200)
	if err == nil {
		err = v.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, 202)
	}
	if err == nil && v.id == "" {
		err = errors.New("initialize opened no session")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open a session at %s: %w", address, err)
	}
	return v, nil
}

// request is the bytes of a request.
func (v *visit) request(method, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /mcp HTTP/1.1\r\nHost: tracker.bench\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\n", method)
	if v.id != "" {
		fmt.Fprintf(&b, "Mcp-Session-Id: %s\r\nMcp-Protocol-Version: 2025-11-25\r\n", v.id)
	}
	if method == "POST" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(&b, "\r\n%s", body)
	return b.Bytes()
}

// post sends a message and expects an answer with a status.
func (v *visit) post(body string, status int) error {
	_, err := v.exchange(v.request("POST", body), status)
	return err
}

// exchange sends a request, and skips the body of the answer. It returns its length.
func (v *visit) exchange(request []byte, status int) (int, error) {
	if _, err := v.conn.Write(request); err != nil {
		return 0, err
	}
	length, err := v.head(status)
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, v.in, int64(length))
	return length, err
}

// head reads the head of an answer and returns the length of its body.
func (v *visit) head(status int) (length int, err error) {
	for first := true; ; first = false {
		line, err := v.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case first:
			if len(line) < 12 || string(line[9:12]) != strconv.Itoa(status) {
				return 0, fmt.Errorf("answer is %q, not %d", bytes.TrimSpace(line), status)
			}
		case len(line) == 2:
			return length, nil
		case isField(name, "content-length"):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		case isField(name, "mcp-session-id"):
			v.id = string(bytes.TrimSpace(value))
		}
	}
}

func isField(name []byte, lowered string) bool {
	return len(name) == len(lowered) && strings.EqualFold(string(name), lowered)
}

// listen opens the session's stream of events, and reads what comes at once.
func (v *visit) listen() error {
	if _, err := v.conn.Write(v.request("GET", "")); err != nil {
		return err
	}
	if _, err := v.head(200); err != nil {
		return err
	}
	_, err := v.in.ReadSlice(':')
	return err
}

// repeat makes calls of a size, or asks for the list if it is 0, each after the answer
// to the one before, until end. It returns how long each took.
func (v *visit) repeat(size int, end time.Time) ([]time.Duration, error) {
	body, least := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, baseline.ListID), baseline.ListBytes/3 // half of it is shown
	if size > 0 {
		body, least = callOf(size), size
	}
	request := v.request("POST", body)
	_ = v.conn.SetDeadline(end.Add(patience)) // fails only on a closed connection
	took := make([]time.Duration, 0, 1<<12)
	for start := time.Now(); start.Before(end); {
		length, err := v.exchange(request, 200)
		if err != nil {
			return nil, err
		}
		if length < least {
			return nil, fmt.Errorf("answer is %d bytes long, want at least %d", length, least)
		}
		now := time.Now()
		took = append(took, now.Sub(start))
		start = now
	}
	return took, nil
}

// callOf is a tools/call whose body has n bytes.
func callOf(n int) string {
	const head, tail = `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"search_issues","arguments":{"limit":20,"query":"`, `"}}}`
	begin := fmt.Sprintf(head, baseline.CallID)
	return begin + strings.Repeat("broken link in the readme ", n)[:max(1, n-len(begin)-len(tail))] + tail
}
