package inbound

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/outrigger-mesh/outrigger/pkg/identity"
	"github.com/outrigger-mesh/outrigger/pkg/inspect"
)

// clientCert is what the app is told of the certificate of a verified peer.
func (p *Proxy) clientCert(peer *identity.Peer) string {
	if !p.ClientCert || len(peer.Chain) == 0 {
		return ""
	}
	hash := sha256.Sum256(peer.Chain[0].Raw)
	return inspect.ClientCert(p.Self.Principal.String(), hex.EncodeToString(hash[:]), peer.Principal.String())
}
