package mcp

import "fmt"

// batch inspects an event that carries several messages: those that answer a batch
// or, in a session of revision 2025-03-26, whatever the server put together. What
// may pass of it goes on as a batch.
func (s *stream) batch(data []byte) (out []byte, err error) {
	e := s.e
	doc := append([]byte(nil), data...)
	ms, err := e.newAnswerParser().Batch(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUninspected, err)
	}
	out = []byte{'['}
	for i := range ms {
		element, err := s.element(&ms[i])
		if err != nil {
			return nil, err
		}
		if element == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, element...)
	}
	if len(out) == 1 {
		return nil, nil
	}
	return append(out, ']'), nil
}

// element is what of one message of a batch goes on; nil if nothing does.
func (s *stream) element(m *message) ([]byte, error) {
	again, err := s.e.answers.Message(m.Raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUninspected, err)
	}
	if again.Kind == response {
		return s.response(again, again.Raw)
	}
	if !s.e.passesFromServer(s.ctx, again) {
		return nil, nil
	}
	return again.Raw, nil
}

// mayBatch tells whether the server may send batches on this stream.
func (s *stream) mayBatch() bool {
	e := s.e
	return e.batch || !e.config.NoBatches && e.version == rev2503 && e.session != nil && e.session.negotiated() == rev2503
}
