package mcp

import (
	"fmt"

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

// askAddress asks policy about a resource as it was written, and then as what it
// stands for: who may read the one by policy's letter must be allowed the other.
func (e *exchange) askAddress(c *call, object policy.Object) policy.Decision {
	verdict := e.judge.Call(e.question(c.method.name, object, c.args))
	meant := standsFor(object.Name)
	if !verdict.Allowed || meant == object.Name {
		return verdict
	}
	verdict = e.judge.Call(e.question(c.method.name, policy.Object{Kind: object.Kind, Name: meant}, c.args))
	if !verdict.Allowed {
		c.record.Object.Name = meant // it is what was decided about
		verdict.Reason = fmt.Sprintf("%.256q stands for it: %s", object.Name, verdict.Reason)
	}
	return verdict
}
