package mcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/outrigger-mesh/outrigger/pkg/policy"
)

// maxRecorded is about how many bytes of redacted arguments are made; a record
// keeps fewer.
const maxRecorded = 8 << 10

// recorded is what the record keeps of a call's arguments: nothing unless a policy
// opts in, and then their digest or their structure.
func recorded(args []byte, how *policy.Recording) []byte {
	switch {
	case how == nil || args == nil:
		return nil
	case how.Digest:
		sum := sha256.Sum256(args)
		return hex.AppendEncode([]byte("sha256:"), sum[:])
	}
	return appendRedacted(nil, value{Raw: args}, how, nil)
}

// appendRedacted appends v with types in place of the values that are not revealed.
func appendRedacted(dst []byte, v value, how *policy.Recording, path []string) []byte {
	if len(path) > 0 && how.Reveals(path) {
		return append(dst, v.Raw[:min(len(v.Raw), maxRecorded)]...)
	}
	switch v.Kind() {
	case '{':
		return appendRedactedObject(dst, v, how, path)
	case '[':
		return appendRedactedArray(dst, v, how, path)
	case '"':
		text, _ := v.Text()
		return append(strconv.AppendInt(append(dst, `"<string `...), int64(len(text)), 10), `>"`...)
	case '0':
		return append(dst, `"<number>"`...)
	case 't', 'f':
		return append(dst, `"<boolean>"`...)
	}
	return append(dst, "null"...)
}

func appendRedactedObject(dst []byte, v value, how *policy.Recording, path []string) []byte {
	dst = append(dst, '{')
	first := true
	for name, member := range v.Members() {
		if len(dst) > maxRecorded {
			return append(dst, "..."...)
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		text, _ := name.Text()
		dst = append(append(dst, name.Raw...), ':')
		dst = appendRedacted(dst, member, how, append(path, text))
	}
	return append(dst, '}')
}

// appendRedactedArray appends an array. Paths do not lead into arrays, so that what
// is in them is revealed only with the whole.
func appendRedactedArray(dst []byte, v value, how *policy.Recording, path []string) []byte {
	dst = append(dst, '[')
	first := true
	for element := range v.Elements() {
		if len(dst) > maxRecorded {
			return append(dst, "..."...)
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendRedacted(dst, element, &policy.Recording{}, path)
	}
	return append(dst, ']')
}
