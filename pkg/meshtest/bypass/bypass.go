// Package bypass tries to get past an MCP policy: it sends the cases of
// testdata/bypass through proxies to real servers that say what they ran, and
// judges each proxy by that alone.
package bypass

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Verdict is what should become of a request.
type Verdict string

const (
	Pass   Verdict = "pass"   // it is well-formed and allowed
	Deny   Verdict = "deny"   // it is well-formed and policy forbids it
	Refuse Verdict = "refuse" // peers could read it differently, or it has no place here
	Any    Verdict = "any"    // it may be let through, as long as nobody takes it for what is forbidden
)

// A Case is a line of the corpus; testdata/bypass/README.md tells more.
type Case struct {
	Name    string
	Verdict Verdict
	Why     string
	Status  int // of our own answer; 0 for any

	Request       string
	RequestBase64 []byte   // in place of Request
	Before        []string // requests that are sent first, each on a connection of its own
}

// Bytes are what is sent.
func (c *Case) Bytes() []byte {
	if len(c.RequestBase64) > 0 {
		return c.RequestBase64
	}
	return []byte(c.Request)
}

// Read reads a corpus, and says which line is wrong.
func Read(r io.Reader) (cases []Case, err error) {
	names := map[string]bool{}
	d := jsontext.NewDecoder(r)
	for {
		var c Case
		err := json.UnmarshalDecode(d, &c, json.RejectUnknownMembers(true), json.MatchCaseInsensitiveNames(true))
		switch {
		case errors.Is(err, io.EOF):
			return cases, nil
		case err != nil:
			return nil, fmt.Errorf("read case %d: %w", len(cases)+1, err)
		case c.Name == "" || names[c.Name]:
			return nil, fmt.Errorf("read case %d: its name %q is missing or taken", len(cases)+1, c.Name)
		case c.Verdict != Pass && c.Verdict != Deny && c.Verdict != Refuse && c.Verdict != Any:
			return nil, fmt.Errorf("read case %s: %q is no verdict", c.Name, c.Verdict)
		}
		names[c.Name] = true
		cases = append(cases, c)
	}
}

// An Answer is what came back first, if anything did.
type Answer struct {
	Status  int
	Session string
	Body    string
	Err     error
}

const (
	// timeout is how long an answer may take.
	timeout = 3 * time.Second
	// settle is how long a server may take with a request that hides behind another.
	settle = 300 * time.Millisecond
)

// Send sends a case to an address of a proxy or server. host replaces the corpus'
// own host, and the session that an earlier answer opened stands for ${session}.
func (c *Case) Send(address string) Answer {
	session := ""
	for _, earlier := range c.Before {
		a := send(address, []byte(strings.ReplaceAll(earlier, "${session}", session)))
		if a.Session != "" {
			session = a.Session
		}
	}
	raw := c.Bytes()
	if session != "" {
		raw = []byte(strings.ReplaceAll(string(raw), "${session}", session))
	}
	return send(address, raw)
}

// host is what the corpus calls.
const host = "server.test"

func send(address string, raw []byte) (a Answer) {
	// Servers on loopback hold the host to be theirs. It is as long as the address,
	// or a case about lengths would be another one.
	raw = []byte(strings.ReplaceAll(string(raw), "Host: "+host+"\r\n", "Host: "+address+"\r\n"))
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return Answer{Err: err}
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write(raw); err != nil {
		a.Err = err // an answer may have come before it
	}
	r := bufio.NewReader(c)
	response, err := http.ReadResponse(r, nil)
	for err == nil && response.StatusCode < 200 {
		response, err = http.ReadResponse(r, nil)
	}
	if err != nil {
		a.Err = errors.Join(a.Err, err)
		return a
	}
	defer response.Body.Close()
	a.Status, a.Session = response.StatusCode, response.Header.Get("Mcp-Session-Id")
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	a.Body, a.Err = string(body), errors.Join(a.Err, err)
	if bytes.Count(raw, []byte(" HTTP/")) > 1 {
		c.SetDeadline(time.Now().Add(settle))
		io.Copy(io.Discard, r) // what comes of the other requests is for the server to say
	}
	return a
}

// Forbidden tells whether what a server ran, a name a line, was forbidden.
func Forbidden(ran string) bool { return strings.Contains(ran, "danger") }

// A Finding is what is wrong with a proxy.
type Finding string

const (
	Fine        Finding = ""
	Hole        Finding = "HOLE"         // a server ran what policy denies
	FalseDenial Finding = "false denial" // what is allowed did not run, and does without the proxy
)

// Judge compares what a server ran behind a proxy with what it runs without one.
func (c *Case) Judge(direct, proxied string) Finding {
	switch {
	case Forbidden(proxied):
		return Hole
	case c.Verdict == Pass && direct != proxied:
		return FalseDenial
	}
	return Fine
}
