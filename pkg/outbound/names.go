package outbound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds on names that DNS is asked for.
const (
	lookupTime  = 5 * time.Second
	lookupHolds = 30 * time.Second
	maxNames    = 4096
	maxTried    = 4 // addresses of one name
)

// A Lookup answers a hostname's addresses.
type Lookup func(ctx context.Context, hostname string) ([]netip.Addr, error)

// SystemLookup asks the DNS that the system is configured with.
func SystemLookup(ctx context.Context, hostname string) ([]netip.Addr, error) {
	return (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip", hostname)
}

// names remembers what DNS answered, for a while.
type names struct {
	lookup Lookup

	mu    sync.Mutex // guards what follows
	known map[string]answer
}

type answer struct {
	addresses []netip.Addr
	until     time.Time
}

// addresses are those of hostname, in random order, but first those of the
// family that is wanted.
func (n *names) addresses(ctx context.Context, hostname string, ipv6First bool) ([]netip.Addr, error) {
	found, err := n.find(ctx, hostname)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", hostname, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("look up %s: %w", hostname, errNoAddress)
	}
	found = slices.Clone(found)
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	slices.SortStableFunc(found, func(a, b netip.Addr) int {
		switch {
		case a.Is4() == b.Is4():
			return 0
		case a.Is4() != ipv6First:
			return -1
		}
		return 1
	})
	return found[:min(len(found), maxTried)], nil
}

var errNoAddress = errors.New("the name has no address")

func (n *names) find(ctx context.Context, hostname string) ([]netip.Addr, error) {
	now := time.Now()
	n.mu.Lock()
	a, ok := n.known[hostname]
	n.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.addresses, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := n.lookup(ctx, hostname)
	if err != nil {
		if ok {
			return a.addresses, nil // what was true a while ago is better than nothing
		}
		return nil, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNames {
		n.known = map[string]answer{}
	}
	n.known[hostname] = answer{found, now.Add(lookupHolds)}
	return found, nil
}
