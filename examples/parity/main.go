// Parity holds the library against a file of test vectors that another
// implementation made: a neuron's or a whole network's inputs and expected results.
//
//	go run ./examples/parity -golden internal/parity/testdata/vgg_tiny.safetensors
//
// It prints the largest relative error of every expected tensor and exits with 1 if
// one exceeds 1e-4 of the tensor's largest magnitude, or if a spike differs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/org/snnrat/internal/parity"
)

func main() {
	path := flag.String("golden", "", "the file of test vectors (safetensors)")
	flag.Parse()
	if err := run(*path); err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	if path == "" {
		return errors.New("-golden: expected the path of a file of test vectors")
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	results, err := parity.Check(path)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tensor\trelative error\tspikes that differ\t")
	failed := 0
	for _, r := range results {
		verdict := ""
		if !r.OK() {
			verdict = "FAIL"
			failed++
		}
		fmt.Fprintf(w, "%s\t%.1e\t%d\t%s\n", r.Name, r.Err, r.Spikes, verdict)
	}
	w.Flush()
	if failed > 0 {
		return fmt.Errorf("%s: %d of %d tensors differ by more than %g or in a spike", path, failed, len(results), parity.Tolerance)
	}
	fmt.Printf("%d tensors agree to %g, all spikes equal\n", len(results), parity.Tolerance)
	return nil
}
