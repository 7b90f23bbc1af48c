package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"
)

// Options are a program's flags.
type Options interface {
	// Concurrency returns the number of threads to use, 0 for all processors.
	Concurrency() int
	// Stopped says what a run that was stopped has left, and where.
	Stopped() string
}

// Main is the main function of a program that runs for long. It parses the command line and
// calls run. It ends the program with 0, with 1 and one line on standard error, or with 130
// after Ctrl-C or SIGTERM. These end run's context, and a line says at once that run
// completes its step first. A second signal ends the program at once.
func Main[O Options](name string, parse func(args []string, stdout io.Writer) (O, error),
	run func(ctx context.Context, o O, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	announced := make(chan struct{})
	context.AfterFunc(ctx, func() {
		stop()
		if term.IsTerminal(int(os.Stderr.Fd())) {
			fmt.Fprintln(os.Stderr) // below the progress, and the ^C that is echoed there
		}
		fmt.Fprintf(os.Stderr, "%s: stopping after this step; Ctrl-C again stops at once\n", name)
		close(announced)
	})
	o, err := parse(os.Args[1:], os.Stdout)
	if err != nil {
		Exit(name, err)
	}
	if n := o.Concurrency(); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	err = run(ctx, o, os.Stdout, os.Stderr)
	if ctx.Err() != nil {
		<-announced
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: stopped; %s\n", name, o.Stopped())
		os.Exit(130)
	}
	Exit(name, err)
}
