package jsonrpc

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

func readEvents(r io.Reader, max int) (events []Event, err error) {
	er := NewEventReader(r, max)
	for {
		e, err := er.Next()
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		e.Data = bytes.Clone(e.Data)
		if len(e.Data) == 0 {
			e.Data = nil
		}
		events = append(events, e)
	}
}

func message(data string) Event {
	e := Event{HasData: true, Retry: -1}
	if data != "" {
		e.Data = []byte(data)
	}
	return e
}

func TestEventsAreReadAsTheSpecificationParsesThem(t *testing.T) {
	comment := func(s string) Event { return Event{Comment: true, Data: []byte(s), Retry: -1} }
	for _, c := range []struct {
		name, in string
		want     []Event
	}{
		{"LF", "data: a\n\n", []Event{message("a")}},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []Event{message("a"), message("b")}},
		{"CR", "data: a\r\rdata: b\r\r", []Event{message("a"), message("b")}},
		{"mixed", "data: a\r\ndata: b\rdata: c\n\r", []Event{message("a\nb\nc")}},
		{"no space", "data:a\n\n", []Event{message("a")}},
		{"one space only", "data:  a\n\n", []Event{message(" a")}},
		{"byte order mark", "\xef\xbb\xbfdata: a\n\n", []Event{message("a")}},
		{"second mark stays", "\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", nil},
		{"no colon", "data\n\n", []Event{message("")}},
		{"two empty lines of data", "data\ndata\n\n", []Event{message("\n")}},
		{"partial at the end", "data: a\n\ndata: b\n", []Event{message("a")}},
		{"unknown field", "foo: a\ndata: b\n\n", []Event{message("b")}},
		{"field names are exact", "Data: a\n data: b\n\n", nil},
		{"comment", ": hi\n\n:x\ndata: a\n\n", []Event{comment(" hi"), comment("x"), message("a")}},
		{"comment inside", "data: a\n:x\ndata: b\n\n", []Event{comment("x"), message("a\nb")}},
		{"type", "event: e\ndata: a\n\ndata: b\n\n", []Event{{Type: "e", HasData: true, Data: []byte("a"), Retry: -1}, message("b")}},
		{"id only", "id: 7\n\n", []Event{{HasID: true, ID: "7", Retry: -1}}},
		{"priming", "id: 7\nretry: 5\ndata:\n\n", []Event{{HasID: true, ID: "7", HasData: true, Retry: 5}}},
		{"id with NUL", "id: 7\x00\ndata: a\n\n", []Event{message("a")}},
		{"bad retry", "retry: 5x\ndata: a\n\n", []Event{message("a")}},
		{"empty retry", "retry:\ndata: a\n\n", []Event{message("a")}},
		{"many blank lines", "\n\n\ndata: a\n\n\n\n", []Event{message("a")}},
	} {
		got, err := readEvents(strings.NewReader(c.in), 0)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}

func TestEventIsThereWithItsLastByte(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write([]byte("data: a\r\r"))
	e, err := NewEventReader(pr, 0).Next()
	if err != nil || string(e.Data) != "a" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestEndlessEventIsRefused(t *testing.T) {
	for _, line := range []string{"data: " + strings.Repeat("x", 600), ":" + strings.Repeat("x", 1200), strings.Repeat("data: x\n", 300),
		strings.Repeat("foo\n", 400), "data: a\n" + strings.Repeat(":\n", 1200)} {
		if _, err := readEvents(strings.NewReader(line+"\n"+line), 1000); !errors.Is(err, ErrEventTooLarge) {
			t.Errorf("%.20q: got %v", line, err)
		}
	}
	if got, err := readEvents(strings.NewReader(strings.Repeat(":\n", 1200)), 1000); err != nil || len(got) != 1200 {
		t.Errorf("many comments: %d, %v", len(got), err)
	}
}

// FuzzEvents checks that splits do not matter and that what is written is read again.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbfdata: a\r\ndata: b\r\r: c\nid: 1\nretry: 3\nevent: x\ndata\n\n"), uint8(3))
	f.Add([]byte("data: a\r\n\r\ndata: b\n\n"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, split uint8) {
		whole, err := readEvents(bytes.NewReader(data), 1000)
		for name, r := range map[string]io.Reader{
			"bytes":   iotest.OneByteReader(bytes.NewReader(data)),
			"halves":  iotest.HalfReader(bytes.NewReader(data)),
			"split":   io.MultiReader(bytes.NewReader(data[:min(int(split), len(data))]), bytes.NewReader(data[min(int(split), len(data)):])),
			"dataerr": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			got, err2 := readEvents(r, 1000)
			if (err == nil) != (err2 == nil) || !reflect.DeepEqual(got, whole) {
				t.Fatalf("%s: %+v, %v; whole: %+v, %v", name, got, err2, whole, err)
			}
		}
		var out []byte
		for i := range whole {
			out = AppendEvent(out, &whole[i])
		}
		again, err := readEvents(bytes.NewReader(out), 0)
		if err != nil || !reflect.DeepEqual(again, whole) {
			t.Fatalf("written %q: read %+v, was %+v", out, again, whole)
		}
	})
}

// modelEvents parses a whole stream as WHATWG HTML §9.2.6 is written, with no
// thought for cost. Blocks that only set an id or a retry count as ours do.
func modelEvents(stream string) (events []Event) {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	lines = lines[:len(lines)-1] // what is not ended is no line
	current, any := Event{Retry: -1}, false
	var data []string
	for _, line := range lines {
		switch {
		case line == "":
			if any {
				current.Data = []byte(strings.Join(data, "\n"))
				if len(current.Data) == 0 {
					current.Data = nil
				}
				events = append(events, current)
			}
			current, any, data = Event{Retry: -1}, false, nil
			continue
		case line[0] == ':':
			comment := Event{Comment: true, Data: []byte(line[1:]), Retry: -1}
			if len(comment.Data) == 0 {
				comment.Data = nil
			}
			events = append(events, comment)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			data, current.HasData, any = append(data, value), true, true
		case "event":
			current.Type = strings.ToValidUTF8(value, "\ufffd")
		case "id":
			if !strings.Contains(value, "\x00") {
				current.ID, current.HasID, any = strings.ToValidUTF8(value, "\ufffd"), true, true
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 63); err == nil && strings.Trim(value, "0123456789") == "" {
				current.Retry, any = int64(n), true
			}
		}
	}
	return events
}

// FuzzEventsAgainstModel checks that the reader reads what the specification says,
// and that messages inside are accepted only if jsontext accepts them.
func FuzzEventsAgainstModel(f *testing.F) {
	f.Add("\xef\xbb\xbfdata: a\r\ndata: b\r\r: c\nid: 1\nretry: 3\nevent: x\ndata\n\n")
	f.Add("id\ndata:  x\ndata:y\n:\nid: a\x00b\nretry: 1x\nData: z\n\nretry: 007\n\nevent: e\n\ndata: last")
	f.Add("data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{}}\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		got, err := readEvents(strings.NewReader(stream), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		want := modelEvents(stream)
		if len(got) != len(want) {
			t.Fatalf("%q: got %+v, want %+v", stream, got, want)
		}
		p := testParser(Limits{})
		for i := range got {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("%q: got %+v, want %+v", stream, got[i], want[i])
			}
			if m, err := p.Message(got[i].Data); err == nil {
				if members := oracle(t, got[i].Data); string(members["result"]) != string(m.Result.Raw) || string(members["params"]) != string(m.Params.Raw) {
					t.Fatalf("%q: jsontext finds %v", got[i].Data, members)
				}
			}
		}
	})
}
