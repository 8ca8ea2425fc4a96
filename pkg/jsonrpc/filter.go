package jsonrpc

// AppendFiltered appends text to dst without those elements of array, an array
// inside text, that keep does not want, and tells how many those were. All
// other bytes stay as they are, except the comma that went with an element.
// base is the offset that positions in text count from: the At of the value
// that text is.
func AppendFiltered(dst, text []byte, base int, array Value, keep func(element Value) bool) (out []byte, dropped int) {
	raw := array.Raw
	dst = append(dst, text[:array.At-base+1]...)
	kept := 0
	segment := 1 // behind the last comma or the bracket
	for element := range array.Elements() {
		end := skipSpace(raw, element.End()-array.At) // at the comma or the bracket
		if keep(element) {
			if kept++; kept > 1 {
				dst = append(dst, ',')
			}
			dst = append(dst, raw[segment:end]...)
		} else {
			dropped++
		}
		segment = end + 1
	}
	if kept == 0 && dropped == 0 {
		return append(dst, text[array.At-base+1:]...), 0
	}
	return append(append(dst, ']'), text[array.End()-base:]...), dropped
}
