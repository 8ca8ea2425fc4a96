// Package jsonrpc reads JSON, JSON-RPC 2.0 envelopes and server-sent events so
// strictly that no two peers can read the accepted bytes differently. It keeps
// the bytes as they came and tells where things are in them; it never encodes
// a message again. It knows no method and no policy.
package jsonrpc

// Limits bound what one document may cost. The zero value means the defaults.
type Limits struct {
	Bytes   int // length of the document; 0 means 4 MiB
	Depth   int // open arrays and objects at once; 0 means 128
	Members int // object members in the whole document; 0 means 262144
	IDBytes int // a string id as written, with its quotes; 0 means 256
	Batch   int // elements of a batch; 0 means 100
}

func (l Limits) withDefaults() Limits {
	l.Bytes = orDefault(l.Bytes, 4<<20)
	l.Depth = orDefault(l.Depth, 128)
	l.Members = orDefault(l.Members, 1<<18)
	l.IDBytes = orDefault(l.IDBytes, 256)
	l.Batch = orDefault(l.Batch, 100)
	return l
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}
