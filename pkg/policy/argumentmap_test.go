package policy

import (
	"strings"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// sameAsDecoded compares a map that decodes what is looked at with one that was
// decoded as a whole.
func sameAsDecoded(t *testing.T, raw []byte) {
	t.Helper()
	value := types.DefaultTypeAdapter.NativeToValue(decodeArguments(raw))
	lazy, ok := newArgumentMap(raw).(*argumentMap)
	whole, valid := value.(traits.Mapper)
	switch {
	case valid && !ok:
		t.Fatalf("%q is refused", raw)
	case !valid: // of what is not looked at, only the outline is checked
		return
	}
	if lazy.Size() != whole.Size() {
		t.Errorf("%q: size %v, want %v", raw, lazy.Size(), whole.Size())
	}
	for i := whole.Iterator(); i.HasNext() == types.True; {
		key := i.Next()
		got, found := lazy.Find(key)
		if !found || got.Equal(whole.Get(key)) != types.True && got.Equal(got) == types.True {
			t.Errorf("%q: %v is %v, %v, want %v", raw, key, got, found, whole.Get(key))
		}
		if lazy.Contains(key) != types.True {
			t.Errorf("%q: %v is not contained", raw, key)
		}
	}
	for _, absent := range []ref.Val{types.String("absent, surely"), types.Int(1), types.Bool(true)} {
		if _, found := lazy.Find(absent); found || lazy.Contains(absent) == types.True || !types.IsError(lazy.Get(absent)) {
			t.Errorf("%q: %v is there", raw, absent)
		}
	}
	if lazy.Equal(whole) != types.True && whole.Equal(whole) == types.True {
		t.Errorf("%q: %v is not equal to it", raw, lazy.Value())
	}
}

var argumentObjects = []string{
	`{}`, `{"a":1}`, ` { "a" : "b" , "c" : [ 1 , {"d":null} ] } `, `{"a":{"b":{"c":"d"}}}`, `{"\u0061":"\u00e4\n"}`,
	`{"a":1,"\u0061":2}`, `{"a":{"b":1,"b":2}}`, `{"a":1e400}`, `{"a":-0.5e-3,"b":true,"c":false,"d":null}`, `{"a":"` + "\xff" + `"}`, `{"` + "\xff" + `":1}`,
	`[]`, `"a"`, ``, `{`, `{"\`, `{"a":"\`, `{"12345678\`, `{"a"}`, `{"a":}`, `{"a":01}`, `{"a":"\x"}`, `{"a":1}{}`, `{"a":"` + strings.Repeat("long ", 20) + `","b":"` + "\x01" + `"}`,
	`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
	`{"a1":1,"a2":2,"a3":3,"a4":4,"a5":5,"a6":6,"a7":7,"a8":8,"a9":9,"b1":1,"b2":2,"b3":3,"b4":4,"b5":5,"b6":6,"b7":7,"b8":8,"b9":9}`,
	`{"a1":1,"a2":2,"a3":3,"a4":4,"a5":5,"a6":6,"a7":7,"a8":8,"a9":9,"b1":1,"b2":2,"b3":3,"b4":4,"b5":5,"b6":6,"b7":7,"b8":8,"b8":9}`,
}

func TestArgumentsDecodedOnDemandAreThoseDecodedAtOnce(t *testing.T) {
	for _, raw := range argumentObjects {
		sameAsDecoded(t, []byte(raw))
	}
}

func TestArgumentsThatAreNoObjectOrSayANameTwiceAreRefused(t *testing.T) {
	for _, raw := range []string{`{"a":1,"\u0061":2}`, `{"b":1,"a":1,"a":1}`, `{"a":1,}`, `[]`, `{"a":"` + "\x01" + `"}`, `{"` + "\xff" + `":1}`, argumentObjects[len(argumentObjects)-1]} {
		if _, ok := newArgumentMap([]byte(raw)).(*argumentMap); ok {
			t.Errorf("%q is accepted", raw)
		}
	}
	m := newArgumentMap([]byte(`{"a":{"b":1,"b":2},"c":"` + "\xff" + `","d":"\x"}`)).(*argumentMap)
	for _, name := range []string{"a", "c", "d"} {
		if v, found := m.Find(types.String(name)); found || !types.IsError(v) {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func FuzzArgumentMap(f *testing.F) {
	for _, raw := range argumentObjects {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { sameAsDecoded(t, raw) })
}
