// Parity compares the library with a file of test vectors that another implementation made.
// The file holds the inputs and the expected results of a neuron or of a network.
//
//	go run ./examples/parity -golden internal/parity/testdata/vgg_tiny.safetensors
//
// It prints the largest relative error of every expected tensor. It exits with 1 if an error
// exceeds 1e-4 of the tensor's largest magnitude, if a spike differs, or if the file cannot
// be checked.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/org/snnrat/examples/internal/cli"
	"github.com/org/snnrat/internal/parity"
)

func main() { cli.Exit("parity", run(os.Args[1:], os.Stdout)) }

func run(args []string, stdout io.Writer) error {
	var path string
	fs := flag.NewFlagSet("parity", flag.ContinueOnError)
	fs.StringVar(&path, "golden", "", "the `file` of test vectors (safetensors)")
	if err := cli.Parse(fs, args, stdout); err != nil {
		return err
	}
	if path == "" {
		return errors.New("-golden is empty: expected a file of test vectors")
	}
	results, err := parity.Check(path)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
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
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%s: %d of %d tensors differ by more than %g or in a spike", path, failed, len(results), parity.Tolerance)
	}
	_, err = fmt.Fprintf(stdout, "%d tensors agree to %g, all spikes equal\n", len(results), parity.Tolerance)
	return err
}
