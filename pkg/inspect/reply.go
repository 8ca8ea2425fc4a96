package inspect

import "io"

// A replyBody is a body that is in memory.
type replyBody struct {
	content []byte
}

func (b *replyBody) Read(p []byte) (int, error) {
	if len(b.content) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.content)
	b.content = b.content[n:]
	return n, nil
}

// WriteTo writes the whole of it at once.
func (b *replyBody) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b.content)
	b.content = b.content[n:]
	return int64(n), err
}

func (b *replyBody) Close() error { return nil }
