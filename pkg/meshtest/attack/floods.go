package attack

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// An App is what stands behind the server that is attacked.
type App uint8

const (
	Silent   App = iota // reads what it gets, and says nothing
	Firehose            // sends without end
	Closing             // ends its direction at once
)

// A Flood is an attack by frames on one connection.
type Flood struct {
	Name    string
	App     App
	Rounds  int  // that must never all be taken
	Quiet   bool // the attacker does not read
	Prepare func(*Client)
	Round   func(*Client)
	// Dials tells that the flood is one of tunnels that are of use: how many of
	// them are dialled is bounded by the budget for dials, not by that for resets.
	Dials bool
}

// Floods are all there are. Each must end in GOAWAY ENHANCE_YOUR_CALM or, where
// the attacker does not read, in the end of the connection.
func Floods() []Flood {
	var all []Flood
	for _, some := range [][]Flood{resets(), headers(), noise(), data(), windows(), dials()} {
		all = append(all, some...)
	}
	return all
}

// resets are streams that are of no use: CVE-2023-44487 and, where we are made
// to send the reset, CVE-2025-8671.
func resets() []Flood {
	get := func(a *Client) uint32 {
		return a.Headers(false, a.Fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"))
	}
	return []Flood{
		{Name: "rapid reset", Rounds: 20_000, Round: func(a *Client) { _ = a.Framer.WriteRSTStream(a.Connect(), http2.ErrCodeCancel) }},
		{Name: "rapid reset of refused requests", Rounds: 100_000, Round: func(a *Client) { _ = a.Framer.WriteRSTStream(get(a), http2.ErrCodeCancel) }},
		{Name: "rapid reset after a byte", Rounds: 100_000, Round: func(a *Client) {
			id := a.Connect()
			_ = a.Framer.WriteData(id, false, []byte("x"))
			_ = a.Framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		{Name: "made you reset by WINDOW_UPDATE", Rounds: 20_000, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(a.Connect(), 0) }},
		{Name: "made you reset by overflow", Rounds: 20_000, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(a.Connect(), 1<<31-1) }},
		{Name: "made you reset by HEADERS", Rounds: 20_000, Round: func(a *Client) {
			id := a.Connect()
			_ = a.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: a.Fields("x", "y")})
		}},
		{Name: "made you reset by PRIORITY", Rounds: 20_000, Round: func(a *Client) {
			id := a.Connect()
			_ = a.Framer.WritePriority(id, http2.PriorityParam{StreamDep: id})
		}},
		{Name: "made you reset by DATA after the end", Rounds: 20_000, Round: func(a *Client) {
			id := a.Connect()
			_ = a.Framer.WriteData(id, true, nil)
			_ = a.Framer.WriteData(id, false, []byte("x"))
		}},
		{Name: "made you reset after GOAWAY", Rounds: 20_000, Prepare: func(a *Client) {
			a.Connect()
			_ = a.Framer.WriteGoAway(0, http2.ErrCodeNo, nil)
		}, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(a.Connect(), 0) }},
		{Name: "streams over the limit", Rounds: 20_000, Round: func(a *Client) { a.Connect() }},
	}
}

// headers are blocks that cost much to read.
func headers() []Flood {
	begin := func(a *Client) {
		_ = a.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: a.Next, BlockFragment: a.Fields(":method", "CONNECT")})
		a.Next += 2
	}
	refer := func(a *Client, times int) {
		block := a.Fields(":method", "CONNECT", ":authority", a.Authority)
		for range times {
			block = append(block, 0x80|62) // the newest entry of the dynamic table
		}
		a.Headers(false, block)
	}
	bomb := func(a *Client) {
		a.Headers(false, a.Fields(":method", "CONNECT", ":authority", a.Authority, "bomb", string(make([]byte, 3000))))
	}
	return []Flood{
		{Name: "malformed requests", Rounds: 20_000, Round: func(a *Client) { a.Headers(true, a.Fields(":method", "CONNECT", "X", "y")) }},
		{Name: "CONTINUATION", Rounds: 1000, Prepare: begin, Round: func(a *Client) { _ = a.Framer.WriteContinuation(a.Last(), false, make([]byte, 1000)) }},
		{Name: "empty CONTINUATION", Rounds: 20_000, Prepare: begin, Round: func(a *Client) { _ = a.Framer.WriteContinuation(a.Last(), false, nil) }},
		{Name: "HPACK bomb", Rounds: 1000, Prepare: bomb, Round: func(a *Client) { refer(a, 8000) }},
		{Name: "small HPACK bombs", Rounds: 20_000, Prepare: bomb, Round: func(a *Client) { refer(a, 15) }},
		{Name: "CONNECT to nowhere", Rounds: 1_000_000, Round: func(a *Client) { a.Headers(true, a.Fields(":method", "CONNECT", ":authority", "nowhere")) }},
	}
}

// noise are frames that carry nothing: CVE-2019-9512, -9513 and -9515.
func noise() []Flood {
	connect := func(a *Client) { a.Connect() }
	ping := func(a *Client) { _ = a.Framer.WritePing(false, [8]byte{}) }
	return []Flood{
		{Name: "SETTINGS", Rounds: 500_000, Round: func(a *Client) {
			_ = a.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: a.window})
			a.window++
		}},
		{Name: "SETTINGS acknowledgements", Rounds: 500_000, Round: func(a *Client) { _ = a.Framer.WriteSettingsAck() }},
		{Name: "PING", Rounds: 500_000, Round: ping},
		{Name: "PING without reading", Rounds: 5_000_000, Quiet: true, Round: ping},
		{Name: "PING answers", Rounds: 500_000, Round: func(a *Client) { _ = a.Framer.WritePing(true, [8]byte{}) }},
		{Name: "PRIORITY", Rounds: 1_000_000, Round: func(a *Client) { _ = a.Framer.WritePriority(7, http2.PriorityParam{StreamDep: 3}) }},
		{Name: "GOAWAY", Rounds: 500_000, Prepare: connect, Round: func(a *Client) { _ = a.Framer.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		{Name: "unknown frames", Rounds: 1_000_000, Round: func(a *Client) { _ = a.Framer.WriteRawFrame(0xee, 0, 0, nil) }},
	}
}

// data are DATA frames that carry nothing: CVE-2019-9518.
func data() []Flood {
	connect := func(a *Client) { a.Connect() }
	return []Flood{
		{Name: "empty DATA", Rounds: 1_000_000, Prepare: connect, Round: func(a *Client) { _ = a.Framer.WriteData(a.Last(), false, nil) }},
		{Name: "padding", Rounds: 1_000_000, Prepare: connect, Round: func(a *Client) { _ = a.Framer.WriteDataPadded(a.Last(), false, nil, make([]byte, 10)) }},
		{Name: "DATA on a closed stream", Rounds: 100_000, Prepare: func(a *Client) {
			_ = a.Framer.WriteRSTStream(a.Connect(), http2.ErrCodeCancel)
		}, Round: func(a *Client) { _ = a.Framer.WriteData(a.Last(), false, []byte("x")) }},
	}
}

// shut makes every stream's window one of n bytes.
func shut(a *Client, n uint32) {
	_ = a.Framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n})
}

// windows make us say little at a time: CVE-2019-9511 and -9517.
func windows() []Flood {
	return []Flood{
		{Name: "WINDOW_UPDATE of the connection", Rounds: 1_000_000, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(0, 300) }},
		{Name: "WINDOW_UPDATE of a stream", Rounds: 1_000_000, Prepare: func(a *Client) { a.Connect() }, Round: func(a *Client) {
			_ = a.Framer.WriteWindowUpdate(a.Last(), 300)
		}},
		{Name: "large WINDOW_UPDATE for nothing", Rounds: 400_000, Prepare: func(a *Client) { a.Connect() }, Round: func(a *Client) {
			_ = a.Framer.WriteWindowUpdate(a.Last(), 5000)
		}},
		{Name: "one-byte windows", App: Firehose, Rounds: 1_000_000, Prepare: func(a *Client) {
			shut(a, 0)
			a.Connect()
		}, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(a.Last(), 1) }},
		{Name: "windows of 300 bytes", App: Firehose, Rounds: 1_000_000, Prepare: func(a *Client) {
			shut(a, 0)
			a.Connect()
		}, Round: func(a *Client) { _ = a.Framer.WriteWindowUpdate(a.Last(), 300) }},
		{Name: "SETTINGS that open windows by a byte", App: Firehose, Rounds: 100_000, Prepare: func(a *Client) {
			shut(a, 0)
			for range 150 {
				a.Connect()
			}
		}, Round: func(a *Client) {
			a.window++
			shut(a, a.window)
		}},
	}
}

// dials are tunnels that are of use, but too many of them.
func dials() []Flood {
	return []Flood{
		{Name: "opening and closing", App: Closing, Dials: true, Rounds: 1_000_000, Round: func(a *Client) {
			_ = a.Framer.WriteData(a.Connect(), true, nil)
		}},
		{Name: "a new tunnel for every byte", App: Closing, Dials: true, Rounds: 1_000_000, Round: func(a *Client) {
			_ = a.Framer.WriteData(a.Connect(), true, []byte("x"))
		}},
	}
}

// Stall opens tunnels, lets nothing come through them, and asks for an answer
// when they are open: a PING.
func (a *Client) Stall(tunnels int) error {
	shut(a, 0)
	for range tunnels {
		a.Connect()
	}
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], 1)
	_ = a.Framer.WritePing(false, p)
	return a.Flush()
}
