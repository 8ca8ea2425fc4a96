package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

const maxVerified = 4096

// A verdict is what verifying a chain established, and what it rests on. It
// says nothing if any of that has changed.
type verdict struct {
	principal   mesh.Principal
	roots       *x509.CertPool // never changed after it is in an SVID
	crl         *revocations
	from, until time.Time // within which all certificates of the path are valid
}

func (v *verdict) holds(now time.Time) bool { return !now.Before(v.from) && !now.After(v.until) }

// A cacheKey stands for a chain, byte for byte, and what it was used for.
type cacheKey struct {
	digest [sha256.Size]byte
	usage  x509.ExtKeyUsage
}

func keyOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) cacheKey {
	if len(chain) == 1 {
		return cacheKey{sha256.Sum256(chain[0].Raw), usage}
	}
	h := sha256.New()
	var length [8]byte
	for _, c := range chain {
		// Each after its length, so that no two chains hash the same bytes.
		binary.BigEndian.PutUint64(length[:], uint64(len(c.Raw)))
		h.Write(length[:])
		h.Write(c.Raw)
	}
	return cacheKey{[sha256.Size]byte(h.Sum(nil)), usage}
}

// A cache remembers verdicts that admitted somebody. Its zero value is ready.
type cache struct {
	mu       sync.Mutex // guards what follows
	verdicts map[cacheKey]verdict
}

func (c *cache) get(k cacheKey) (verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.verdicts[k]
	return v, ok
}

func (c *cache) put(k cacheKey, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verdicts == nil {
		c.verdicts = map[cacheKey]verdict{}
	}
	if len(c.verdicts) >= maxVerified {
		c.makeRoom()
	}
	c.verdicts[k] = v
}

// makeRoom drops an eighth, whichever the map yields: to be wrong costs one verification.
func (c *cache) makeRoom() {
	drop := maxVerified / 8
	for k := range c.verdicts {
		if drop--; drop < 0 {
			return
		}
		delete(c.verdicts, k)
	}
}
