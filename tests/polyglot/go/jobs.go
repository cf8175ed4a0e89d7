// The jobs in Go with nothing but the standard library: each export is named and laid out as the
// canonical ABI asks (https://github.com/WebAssembly/component-model, CanonicalABI.md).
package main

import (
	"hash/fnv"
	"math"
	"strconv"
	"unsafe"
)

// What the host has been given by realloc and not handed back yet: it keeps the garbage collector away.
var held = map[unsafe.Pointer][]uint64{}

// Named for exports only: the adapter would call a plain cabi_realloc before the Go runtime has started.
//
//go:wasmexport cabi_export_realloc
func realloc(old unsafe.Pointer, oldLen, alignment, size uint32) unsafe.Pointer {
	words := make([]uint64, size/8+1) // 8 is the largest alignment there is
	copy(words, held[old])
	delete(held, old)
	ptr := unsafe.Pointer(&words[0])
	held[ptr] = words
	return ptr
}

// A string as the host reads it. Pointers of the host have 32 bits, those of Go have 64.
type text struct{ ptr, len uint32 }

// Where results of more than one word are left for the host, and what keeps the text in them alive.
var (
	kept     string
	greeting text
	summary  struct {
		count                  uint32
		mean, minimum, maximum float64
	}
	parsed struct {
		isErr uint8
		ok    uint32
	}
	unparsed struct {
		isErr uint8
		err   text
	}
)

func keep(s string) text {
	kept = s
	return text{uint32(uintptr(unsafe.Pointer(unsafe.StringData(s)))), uint32(len(s))}
}

//go:wasmexport omniq:polyglot/jobs@0.1.0#add
func add(a, b int32) int32 {
	return a + b
}

//go:wasmexport omniq:polyglot/jobs@0.1.0#greet
func greet(ptr *byte, size uint32) unsafe.Pointer {
	defer delete(held, unsafe.Pointer(ptr))
	greeting = keep("Hello, " + unsafe.String(ptr, size) + "!")
	return unsafe.Pointer(&greeting)
}

//go:wasmexport omniq:polyglot/jobs@0.1.0#stats
func stats(ptr *float64, size uint32) unsafe.Pointer {
	defer delete(held, unsafe.Pointer(ptr))
	nan := math.NaN()
	summary.count, summary.mean, summary.minimum, summary.maximum = size, nan, nan, nan
	if size > 0 {
		sum, least, most := 0.0, math.Inf(1), math.Inf(-1)
		for _, value := range unsafe.Slice(ptr, size) {
			sum += value
			least, most = min(least, value), max(most, value)
		}
		summary.mean, summary.minimum, summary.maximum = sum/float64(size), least, most
	}
	return unsafe.Pointer(&summary)
}

//go:wasmexport omniq:polyglot/jobs@0.1.0#parse
func parse(ptr *byte, size uint32) unsafe.Pointer {
	defer delete(held, unsafe.Pointer(ptr))
	digits := unsafe.String(ptr, size)
	number, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		unparsed.isErr, unparsed.err = 1, keep("not a number: "+digits)
		return unsafe.Pointer(&unparsed)
	}
	parsed.ok = uint32(number)
	return unsafe.Pointer(&parsed)
}

//go:wasmexport omniq:polyglot/jobs@0.1.0#checksum
func checksum(ptr *byte, size uint32) uint64 {
	defer delete(held, unsafe.Pointer(ptr))
	hash := fnv.New64a()
	hash.Write(unsafe.Slice(ptr, size))
	return hash.Sum64()
}

func main() {}
