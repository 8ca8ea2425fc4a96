package outbound

import (
	"fmt"
	"math/rand/v2"
)

// traceParent is a new W3C trace context, as ztunnel makes one for each
// connection: to find the records of its two ends, not to be joined with traces of the app.
func traceParent() string {
	return fmt.Sprintf("00-%016x%016x-%016x-00", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1)
}
