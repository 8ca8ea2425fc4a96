package mcp

// enterSession finds the legacy session that the request belongs to. A session
// id is a bearer's secret and yet not enough: only who opened the session may
// use it. One that we do not know is answered as a server answers one that it
// lost, so that the client opens another.
func (e *exchange) enterSession() *refusal {
	switch {
	case e.modern && e.session != nil:
		return &refusal{status: 400, code: codeInvalidRequest, problem: "revision 2026-07-28 has no sessions"}
	case e.modern || e.session != nil:
		return nil
	}
	h := e.x.Request.Header
	id := h.Get(sessionHeader)
	opens := len(e.calls) == 1 && e.calls[0].name == "initialize"
	switch {
	case !h.Has(sessionHeader):
		if !opens {
			e.session = e.sessions.open(sessionKey{place: e.place(), caller: e.caller()}, e.caller(), e.time)
		}
		return nil
	case !isSessionID(id):
		return &refusal{status: 400, code: codeInvalidRequest, problem: "the Mcp-Session-Id header is not an id"}
	case opens:
		return &refusal{status: 400, code: codeInvalidRequest, problem: "initialize opens a session and cannot be in one"}
	}
	s := e.sessions.enter(sessionKey{place: e.place(), id: id}, e.time)
	switch {
	case s == nil:
		return &refusal{status: 404, code: codeSessionNotFound, problem: "Session not found"}
	case !s.admits(e.caller()):
		e.sessions.leave(s, e.time)
		return &refusal{status: 403, code: codeRefused, problem: "the session belongs to another caller"}
	}
	e.session = s
	e.client = s.introduced()
	return nil
}

// isSessionID tells whether id is 1 to 1024 visible ASCII characters
// (transports, "Session Management").
func isSessionID(id string) bool {
	if id == "" || len(id) > maxSessionID {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

// openSession binds the session that the server opens to its caller.
func (e *exchange) openSession(id string) (problem string) {
	if id != "" && !isSessionID(id) {
		return "the server's Mcp-Session-Id is not an id"
	}
	key := sessionKey{place: e.place(), id: id}
	if id == "" {
		key.caller = e.caller()
	}
	if e.session = e.sessions.open(key, e.caller(), e.time); e.session == nil {
		return "the session cannot be opened: there are too many, or it is another caller's"
	}
	e.session.introduce(e.client)
	return ""
}

// recognizeAnswers finds the server requests that the client's responses
// answer. A response to what this session was never asked goes nowhere.
func (e *exchange) recognizeAnswers() *refusal {
	for _, c := range e.calls {
		if c.kind != response {
			continue
		}
		name, ok := "", false
		if e.session != nil {
			name, ok = e.session.asked(c.id.Key)
		}
		if !ok {
			return &refusal{status: 400, code: codeInvalidRequest, problem: "the response answers no request of this session's server"}
		}
		c.name, c.method = name, lookup(name)
		c.record.Method = name
	}
	return nil
}

// expect notes what is on its way: answers that will not be accepted twice, and
// calls whose answer may come on another stream.
func (e *exchange) expect() {
	if e.session == nil {
		return
	}
	for _, c := range e.calls {
		switch c.kind {
		case response:
			e.session.answered(c.id.Key)
		case request:
			e.session.remember(c)
			if c.name == "initialize" {
				e.session.introduce(e.client)
			}
		}
	}
}
