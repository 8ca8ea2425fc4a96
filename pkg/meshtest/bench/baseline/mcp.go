package baseline

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
	"sync"
)

// The ids that a client of the MCP app gives its requests: the answers are ready
// before they are asked for.
const (
	InitializeID = 1
	CallID       = 2
	ListID       = 3
)

// Sizes of what the MCP app reads and sends.
const (
	longestRequest = 64 << 10 // body of a request
	ListBytes      = 1 << 20  // about, of the list of tools
	listTools      = 1000     // in it
)

// HiddenTools begins the name of each tool of the list that a policy may hide.
const HiddenTools = "delete_"

// MCPApp serves MCP on all addresses until ctx ends, as cheaply as can be: it reads of
// a request only its method, answers a call with as many bytes as it was asked in,
// and keeps a stream of events silent.
func MCPApp(ctx context.Context, addresses []string) error {
	a := newMCPApp()
	errs := make([]error, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		all.Go(func() {
			errs[i] = serve(ctx, ln, func(c net.Conn) {
				defer c.Close()
				_ = a.answer(c) // who asked notices
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// An mcpApp is what all connections share.
type mcpApp struct {
	list []byte

	mu       sync.Mutex // guards what follows
	sessions int
	calls    map[int][]byte // answers, by the length of their body
}

func newMCPApp() *mcpApp { return &mcpApp{list: answerTo(listOfTools()), calls: make(map[int][]byte)} }

func (a *mcpApp) answer(c net.Conn) error {
	r := bufio.NewReaderSize(c, 4<<10)
	var body []byte
	for {
		method, length, err := readHead(r)
		if err != nil {
			return err
		}
		body = append(body[:0], make([]byte, length)...)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		if _, err := c.Write(a.respond(method, body)); err != nil {
			return err
		}
	}
}

// readHead reads the head of a request and says its method and how long its body is.
func readHead(r *bufio.Reader) (method string, length int, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); {
		case first:
			verb, _, _ := bytes.Cut(line, []byte(" "))
			method = string(verb)
		case len(line) <= 2:
			return method, length, nil
		case len(name) == len("content-length") && strings.EqualFold(string(name), "content-length"):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > longestRequest {
				return "", 0, fmt.Errorf("content length %q: %w", value, errors.Join(err, io.ErrUnexpectedEOF))
			}
		}
	}
}

func (a *mcpApp) respond(method string, body []byte) []byte {
	const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n: ok\n\n\r\n"
	switch is := func(name string) bool { return bytes.Contains(body, []byte(`"method":"`+name+`"`)) }; {
	case method == "GET":
		return []byte(stream)
	case is("tools/call"):
		return a.call(len(body))
	case is("tools/list"):
		return a.list
	case is("initialize"):
		a.mu.Lock()
		a.sessions++
		header := fmt.Sprintf("Mcp-Session-Id: session-%08d-of-the-app\r\n", a.sessions)
		a.mu.Unlock()
		return answerTo(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"fixed","version":"1"}}}`, header)
	}
	return []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
}

// call is the answer to a call, n bytes long as far as that is enough.
func (a *mcpApp) call(n int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, ok := a.calls[n]
	if !ok {
		const head, tail = `{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"`, `"}],"isError":false}}`
		answer = answerTo(head + strings.Repeat("12 issues match. ", n)[:max(0, n-len(head)-len(tail))] + tail)
		a.calls[n] = answer
	}
	return answer
}

func answerTo(body string, headers ...string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", strings.Join(headers, ""), len(body), body)
}

// listOfTools is an answer to tools/list of about ListBytes.
func listOfTools() string {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0","id":3,"result":{"tools":[`)
	for i := range listTools {
		if i > 0 {
			b.WriteByte(',')
		}
		verb := []string{"get_", "list_", "search_", HiddenTools}[i%4]
		fmt.Fprintf(&b, `{"name":"%sissues_%d","title":"Issues, part %d","description":"`, verb, i, i)
		b.WriteString(strings.Repeat("Returns what the tracker has, newest first, one page at a time. ", 6))
		b.WriteString(`","inputSchema":{"type":"object","properties":{`)
		for j := range 4 {
			fmt.Fprintf(&b, `"field_%d":{"type":"string","description":"What the field of an issue has to be like, as a pattern"},`, j)
		}
		b.WriteString(`"limit":{"type":"integer","minimum":1,"maximum":100}},"required":["limit"],"additionalProperties":false},"annotations":{"readOnlyHint":true}}`)
	}
	b.WriteString(`]}}`)
	return b.String()
}
