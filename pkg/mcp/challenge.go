package mcp

import (
	"net/url"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

const maxLocations = 1024

// locations are where servers said that their metadata is: the resource_metadata
// of a challenge (RFC 9728 §5.1), where that is another path than the well-known one.
type locations struct {
	mu sync.Mutex // guards what follows
	of map[location]bool
}

type location struct {
	place place
	path  string
}

func newLocations() *locations { return &locations{of: map[location]bool{}} }

// note remembers what the challenges of a 401 or 403 name. A place elsewhere is not
// ours to let through, and the endpoint itself is no place of metadata.
func (l *locations) note(p place, r *inspect.Request, up *inspect.Response) {
	if up.Status != 401 && up.Status != 403 {
		return
	}
	for _, f := range up.Header {
		if !strings.EqualFold(f.Name, "WWW-Authenticate") {
			continue
		}
		to, err := url.Parse(parameter(f.Value, "resource_metadata"))
		if err != nil || !strings.EqualFold(to.Host, r.Host) || to.RawQuery != "" || to.Path == "" || to.Path == r.Path || len(to.Path) > maxEcho {
			continue
		}
		l.add(location{p, to.EscapedPath()})
	}
}

func (l *locations) add(to location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.of[to] && len(l.of) >= maxLocations {
		for other := range l.of { // any: the next challenge brings it back
			delete(l.of, other)
			break
		}
	}
	l.of[to] = true
}

func (l *locations) has(p place, path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[location{p, path}]
}

// parameter is the quoted value of a challenge's parameter, "" if it has none.
func parameter(challenge, name string) string {
	for at := 0; ; {
		i := strings.Index(challenge[at:], name+`="`)
		if i < 0 {
			return ""
		}
		start := at + i
		at = start + len(name) + 2
		if start > 0 && !strings.ContainsRune(" ,", rune(challenge[start-1])) {
			continue
		}
		value, _, closed := strings.Cut(challenge[at:], `"`)
		if closed && !strings.Contains(value, `\`) {
			return value
		}
	}
}
