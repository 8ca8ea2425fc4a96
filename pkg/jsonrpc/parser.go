package jsonrpc

import "slices"

// A Parser reads messages, one after the other, and reuses its memory. It must
// not be used by two goroutines at once.
type Parser struct {
	envelope *Shape
	scanner  scanner
	message  Message
	batch    []Message
}

// NewParser makes a parser. The shapes of params and of result may be nil.
func NewParser(l Limits, params, result *Shape) *Parser {
	p := &Parser{}
	p.scanner.limits = l.withDefaults()
	p.envelope = NewShape([]string{"jsonrpc", "id", "method"}, map[string]*Shape{
		"params": params,
		"result": result,
		"error":  NewShape([]string{"code", "message", "data"}, nil),
	})
	return p
}

// Message reads data as exactly one message. Every error is an *Error; a batch
// is one with ReasonBatch, and is otherwise well-formed JSON.
func (p *Parser) Message(data []byte) (*Message, error) {
	v, err := p.scanner.document(data, p.envelope)
	if err != nil {
		return nil, err
	}
	if v.Kind() == '[' {
		return nil, envelope(v.At, ReasonBatch, "a batch is not accepted here")
	}
	if err := p.open(&p.message, v, p.scanner.noted); err != nil {
		return nil, err
	}
	return &p.message, nil
}

// Batch reads data as an array of messages, as revision 2025-03-26 of MCP has
// them: not empty, not nested, no id twice.
func (p *Parser) Batch(data []byte) ([]Message, error) {
	v, err := p.scanner.document(data, p.envelope)
	if err != nil {
		return nil, err
	}
	if v.Kind() != '[' {
		return nil, envelope(v.At, ReasonBatch, "this is not a batch")
	}
	clear(p.batch)
	p.batch = p.batch[:0]
	rest := p.scanner.noted // of this element and those behind it
	for element := range v.Elements() {
		if len(p.batch) == p.scanner.limits.Batch {
			return nil, envelope(element.At, ReasonTooLarge, "the batch has too many elements")
		}
		if at, ok := slices.BinarySearch(p.scanner.starts, element.At); ok {
			element.node = int32(at + 1)
		}
		n := 0
		for n < len(rest) && rest[n].value.At < element.End() {
			n++
		}
		var m Message
		err := p.open(&m, element, rest[:n])
		rest = rest[n:]
		if err != nil {
			return nil, err
		}
		for i := range p.batch {
			if !m.ID.IsZero() && p.batch[i].ID.Key == m.ID.Key {
				return nil, envelope(element.At, ReasonID, "two elements of the batch have the same id")
			}
		}
		p.batch = append(p.batch, m)
	}
	if len(p.batch) == 0 {
		return nil, envelope(v.At, ReasonBatch, "the batch is empty")
	}
	return p.batch, nil
}

// Forget lets go of the last document, so that a parser can rest in a pool
// without keeping it alive. Messages read from it are no longer usable.
func (p *Parser) Forget() {
	p.scanner.reset(nil)
	p.message = Message{}
	clear(p.batch)
	p.batch = p.batch[:0]
}

// members of an envelope, once each by the scanner's word.
type envelopeMembers struct {
	jsonrpc, id, method, params, result, failure Value
	unknown                                      bool
}

func membersOf(node int32, noted []member) (e envelopeMembers) {
	for i := range noted {
		m := &noted[i]
		if m.owner != node {
			continue
		}
		switch string(m.name) {
		case "jsonrpc":
			e.jsonrpc = m.value
		case "id":
			e.id = m.value
		case "method":
			e.method = m.value
		case "params":
			e.params = m.value
		case "result":
			e.result = m.value
		case "error":
			e.failure = m.value
		default:
			e.unknown = true
		}
	}
	return e
}

// open checks the envelope of v, whose members are among noted, and fills m.
func (p *Parser) open(m *Message, v Value, noted []member) error {
	if v.Kind() != '{' {
		return envelope(v.At, ReasonEnvelope, "the message is not an object")
	}
	e := membersOf(v.node, noted)
	*m = Message{Raw: v.Raw, Params: e.params, Result: e.result, Error: e.failure, noted: noted}
	id, problem := ID{}, ""
	if e.id.Kind() != 0 && !(e.id.Kind() == 'n' && e.failure.Kind() != 0) {
		id, problem = readID(e.id, p.scanner.limits.IDBytes)
	}
	refuse := func(at int, reason Reason, problem string) error {
		err := envelope(at, reason, problem)
		err.ID = id.Raw
		return err
	}
	if problem != "" {
		return refuse(e.id.At, ReasonID, problem)
	}
	m.ID = id
	if twin := p.scanner.twin; twin != nil && twin.Offset < v.End() {
		return refuse(twin.Offset, twin.Reason, twin.Problem)
	}
	if at, problem := m.sort(&e); problem != "" {
		return refuse(max(at, v.At), ReasonEnvelope, problem)
	}
	return nil
}

// sort finds out which kind of message it is.
func (m *Message) sort(e *envelopeMembers) (at int, problem string) {
	switch {
	case e.unknown:
		return 0, "the envelope has a member that JSON-RPC does not know"
	case !e.jsonrpc.Is("2.0"):
		return e.jsonrpc.At, `"jsonrpc" is not the string "2.0"`
	case e.method.Kind() != 0:
		return m.call(e)
	case e.params.Kind() != 0:
		return e.params.At, "the message has params but no method"
	case (e.result.Kind() != 0) == (e.failure.Kind() != 0):
		return 0, "the message is neither a request nor a response with one of result and error"
	case e.result.Kind() != 0 && e.id.Kind() == 0:
		return 0, "the response has no id"
	case e.failure.Kind() != 0:
		return m.failure(e)
	}
	m.Kind = Response
	return 0, ""
}

func (m *Message) call(e *envelopeMembers) (at int, problem string) {
	var ok bool
	if m.Method, ok = method(e.method); !ok || m.Method == "" {
		return e.method.At, "the method is not a name"
	}
	if e.result.Kind() != 0 || e.failure.Kind() != 0 {
		return 0, "the message has a method and a result or error"
	}
	if k := e.params.Kind(); k != 0 && k != '{' {
		return e.params.At, "params is not an object"
	}
	m.Kind = Notification
	if !m.ID.IsZero() {
		m.Kind = Request
	}
	return 0, ""
}

func (m *Message) failure(e *envelopeMembers) (at int, problem string) {
	if e.failure.Kind() != '{' {
		return e.failure.At, "the error is not an object"
	}
	code, isInt := m.Member(e.failure, "code").Int()
	if !isInt || m.Member(e.failure, "message").Kind() != '"' {
		return e.failure.At, "the error has no integer code or no message"
	}
	m.Kind, m.Code = Response, code
	return 0, ""
}

// Check tells whether data is one JSON text that we accept, of any kind.
func Check(data []byte, l Limits) error {
	s := scanner{limits: l.withDefaults()}
	_, err := s.document(data, nil)
	return err
}
