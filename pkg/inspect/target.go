package inspect

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// target reads a request target in origin or absolute form. An absolute form is
// reduced to the origin form; its authority must be the Host field's, which the
// app would have to believe otherwise (RFC 9112 §3.2.2).
func (r *Request) target(written string) error {
	if written == "" || len(written) > maxTarget {
		return &Error{Status: 414, Problem: "request target is empty or too long"}
	}
	if written[0] != '/' {
		const scheme = "http://"
		if len(written) < len(scheme) || !equalFold(written[:len(scheme)], scheme) {
			return bad("request target is not a path")
		}
		rest := written[len(scheme):]
		authority := rest
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			authority = rest[:i]
		}
		if !equalFold(authority, r.Host) {
			return bad("request target and Host name different authorities")
		}
		if written = rest[len(authority):]; written == "" || written[0] != '/' {
			written = "/" + written
		}
	}
	r.Target = written
	path, query, _ := strings.Cut(written, "?")
	if !percentEncoded(path, isPath) || !percentEncoded(query, isQuery) {
		return bad("character in the request target that must be encoded")
	}
	r.RawQuery = query
	var err error
	r.Path, err = decodePath(path)
	return err
}

// percentEncoded tells whether s has only characters of the class and valid
// percent-encoded ones.
func percentEncoded(s string, bit uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&bit != 0 {
			continue
		}
		if s[i] != '%' || i+2 >= len(s) || class[s[i+1]]&class[s[i+2]]&isHex == 0 {
			return false
		}
		i += 2
	}
	return true
}

// decodePath decodes a path once. It rejects what servers are known to resolve in
// different ways.
func decodePath(path string) (string, error) {
	decoded := path
	if strings.IndexByte(path, '%') >= 0 {
		b := make([]byte, 0, len(path))
		for i := 0; i < len(path); i++ {
			c := path[i]
			if c == '%' {
				c = unhex(path[i+1])<<4 | unhex(path[i+2])
				i += 2
				if c == '/' || c == '\\' || c < 0x20 || c == 0x7f {
					return "", bad("encoded slash, backslash or control character in the path")
				}
			}
			b = append(b, c)
		}
		decoded = string(b)
		if !utf8.ValidString(decoded) {
			return "", bad("path is not UTF-8")
		}
	}
	if strings.Contains(decoded, "/.") {
		for segment := range strings.SplitSeq(decoded, "/") {
			// Java servers drop the parameters of a segment before they resolve dots.
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return "", bad("dot segment in the path")
			}
		}
	}
	return decoded, nil
}

// validHost tells whether s is a host name or an IP address, with or without port.
func validHost(s string) bool {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if !validPort(port) {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6() && a.Zone() == ""
	}
	return host != "" && len(host) <= 255 && all(host, isHost)
}

func validPort(s string) bool {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return s != "" && len(s) <= 5 && n <= 65535
}
