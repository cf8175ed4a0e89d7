// A command in Go: counts the lines, words and bytes of its input, and takes no arguments.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "unexpected argument: %s\n", os.Args[1])
		os.Exit(1)
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(bytes.Count(input, []byte("\n")), len(bytes.Fields(input)), len(input))
}
