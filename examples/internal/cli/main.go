package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
)

// Options are a program's flags.
type Options interface {
	// Concurrency returns the number of threads to use, 0 for all processors.
	Concurrency() int
	// Stopped says, of a run that Ctrl-C stopped, what of it is where.
	Stopped() string
}

// Main is the main function of a program that works for long: it parses the command
// line and runs, and ends the program with 0, with 1 and a line on standard error, or
// with 130 after Ctrl-C, which ends run's context. A second Ctrl-C ends the program at
// once.
func Main[O Options](name string, parse func(args []string, stdout io.Writer) (O, error),
	run func(ctx context.Context, o O, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	o, err := parse(os.Args[1:], os.Stdout)
	if err != nil {
		Exit(name, err)
	}
	if n := o.Concurrency(); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	err = run(ctx, o, os.Stdout, os.Stderr)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: stopped; %s\n", name, o.Stopped())
		os.Exit(130)
	}
	Exit(name, err)
}
