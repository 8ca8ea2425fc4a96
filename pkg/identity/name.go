package identity

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/outrigger-mesh/outrigger/pkg/mesh"
)

// The general names of RFC 5280 §4.2.1.6 carry their kind as a context tag.
const uriTag = 6

var (
	subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	errNotDER      = errors.New("subject alternative names are not valid DER")
)

// principalOf reads the identity from a certificate's only URI name, byte for
// byte. It does not use leaf.URIs, because net/url has normalised those.
// Nothing but a URI name can name a principal.
func principalOf(leaf *x509.Certificate) (mesh.Principal, error) {
	var uris []string
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(subjectAltName) {
			continue
		}
		more, err := uriNames(e.Value)
		if err != nil {
			return mesh.Principal{}, err
		}
		uris = append(uris, more...)
	}
	if len(uris) != 1 {
		return mesh.Principal{}, fmt.Errorf("it has %d URI names, exactly one is required", len(uris))
	}
	return mesh.ParsePrincipal(uris[0])
}

// uriNames are the URI names in the value of a SAN extension.
func uriNames(extension []byte) ([]string, error) {
	var names asn1.RawValue
	rest, err := asn1.Unmarshal(extension, &names)
	if err != nil || len(rest) > 0 || names.Class != asn1.ClassUniversal || names.Tag != asn1.TagSequence || !names.IsCompound {
		return nil, errNotDER
	}
	var uris []string
	for rest := names.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific {
			return nil, errNotDER
		}
		if name.Tag != uriTag {
			continue
		}
		if name.IsCompound {
			return nil, errNotDER
		}
		uris = append(uris, string(name.Bytes))
	}
	return uris, nil
}
