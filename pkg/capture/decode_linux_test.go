package capture

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzDecode4(f *testing.F) {
	f.Add([]byte{2, 0, 0x1f, 0x90, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw [16]byte
		copy(raw[:], b)
		a, err := decode4(raw)
		if inet := binary.NativeEndian.Uint16(raw[:]) == unix.AF_INET; inet != (err == nil) {
			t.Fatalf("%v: %v", raw, err)
		}
		if err == nil && (a.Addr().As4() != [4]byte(raw[4:8]) || a.Port() != uint16(raw[2])<<8|uint16(raw[3])) {
			t.Errorf("%v decoded as %v", raw, a)
		}
	})
}
