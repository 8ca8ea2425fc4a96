package mcp

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nlnwa/whatwg-url/url"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxAddress is the longest address that is looked at as one.
const maxAddress = 8192

// standsFor is the address that peers make of one before they look it up: the
// TypeScript and the Python SDK read it as browsers do (WHATWG URL Standard), which
// resolves dots, folds the scheme and leaves out a host that means nothing. It is
// the address itself if that changes nothing, or if it is none that they read.
func standsFor(address string) string {
	if len(address) > maxAddress {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Href(false)
}

// unescaped is an address without the escapes of what need not be escaped (RFC 3986
// §2.3) and of separators: servers decode a path, or what a template found in it, once
// they have it.
func unescaped(address string) string {
	if strings.IndexByte(address, '%') < 0 || len(address) > maxAddress {
		return address
	}
	var b strings.Builder
	for i := 0; i < len(address); i++ {
		c := address[i]
		if c == '%' && i+2 < len(address) {
			if n, err := strconv.ParseUint(address[i+1:i+3], 16, 8); err == nil && isFree(byte(n)) {
				c = byte(n)
				i += 2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func isFree(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(`-._~/\`, c) >= 0
}

// askAddress asks policy about a resource as it was written, and then as what it
// stands for: who may read the one by policy's letter must be allowed the other. What it
// would be without escapes must not be denied by a rule and, if it then climbs out of a
// directory, be allowed too.
func (e *exchange) askAddress(c *call, object policy.Object) policy.Decision {
	verdict := e.judge.Call(e.question(c.method.name, object, c.args))
	meant := standsFor(object.Name)
	if verdict.Allowed && meant != object.Name {
		verdict = e.askMeant(c, object, meant)
	}
	plain := unescaped(meant)
	if !verdict.Allowed || plain == meant {
		return verdict
	}
	resolved, noted := standsFor(plain), c.record.Object
	if d := e.askMeant(c, object, resolved); !d.Allowed && (d.Rule != "" || resolved != plain) {
		return d
	}
	c.record.Object = noted
	return verdict
}

// askMeant asks policy about what an address stands for.
func (e *exchange) askMeant(c *call, object policy.Object, meant string) policy.Decision {
	verdict := e.judge.Call(e.question(c.method.name, policy.Object{Kind: object.Kind, Name: meant}, c.args))
	if !verdict.Allowed {
		c.record.Object.Name = meant // it is what was decided about
		verdict.Reason = fmt.Sprintf("%.256q stands for it: %s", object.Name, verdict.Reason)
	}
	return verdict
}
