// Package cli reads the examples' command lines and runs their main functions. An error in
// a command line names the flag, its value and what was expected, in one line.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/org/snnrat/internal/kernel"
)

// Number is what the numeric flags hold.
type Number interface{ int | uint64 | float64 }

// Var defines a flag for a number in an interval, which is written as in mathematics: [1,
// 10], (0, 1] or [0, ∞). It panics if the interval is not written so.
func Var[T Number](fs *flag.FlagSet, p *T, name string, value T, interval, usage string) {
	*p = value
	fs.Var(&number[T]{p, parseInterval(interval)}, name, usage+": `number` in "+interval)
}

// number implements flag.Value.
type number[T Number] struct {
	p  *T
	in interval
}

func (n *number[T]) String() string {
	if n.p == nil { // package flag asks a zero value
		return ""
	}
	return fmt.Sprint(*n.p)
}

func (n *number[T]) Set(s string) error {
	var v any
	var err error
	kind := "a whole number"
	switch any(*n.p).(type) {
	case int:
		v, err = strconv.Atoi(s)
	case uint64:
		v, err = strconv.ParseUint(s, 10, 64)
	default:
		kind = "a number"
		v, err = strconv.ParseFloat(s, 64)
	}
	if err != nil || !n.in.contains(float64(v.(T))) {
		return fmt.Errorf("expected %s in %s", kind, n.in.text)
	}
	*n.p = v.(T)
	return nil
}

type interval struct {
	lo, hi         float64
	loOpen, hiOpen bool
	text           string
}

func parseInterval(s string) interval {
	lo, hi, ok := strings.Cut(strings.Trim(s, "[()]"), ", ")
	if !ok || !strings.ContainsAny(s[:1], "[(") || !strings.ContainsAny(s[len(s)-1:], ")]") {
		panic("cli: no interval: " + s)
	}
	return interval{bound(lo), bound(hi), s[0] == '(', s[len(s)-1] == ')', s}
}

func bound(s string) float64 {
	if s == "∞" {
		return math.Inf(1)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic("cli: no bound of an interval: " + s)
	}
	return v
}

func (i interval) contains(v float64) bool {
	return (v > i.lo || v == i.lo && !i.loOpen) && (v < i.hi || v == i.hi && !i.hiOpen)
}

// Out defines the flag -out for the folder that an example writes to, by default one below out/
// with the example's name. [Parse] refuses an empty one.
func Out(fs *flag.FlagSet, p *string, usage string) {
	fs.StringVar(p, outFlag, filepath.Join("out", fs.Name()), usage)
}

const outFlag = "out"

// Parse parses a command line of flags only, and checks the environment. Asked for help,
// it writes it to out and returns flag.ErrHelp.
func Parse(fs *flag.FlagSet, args []string, out io.Writer) error {
	fs.Init(fs.Name(), flag.ContinueOnError)
	fs.SetOutput(io.Discard) // package flag prints the whole usage after an error
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(out)
		fmt.Fprintf(out, "Flags of %s:\n", fs.Name())
		fs.PrintDefaults()
	case err != nil:
		err = fmt.Errorf("%w (-help lists the flags)", err)
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: expected flags only (-help lists them)", fs.Arg(0))
	default:
		if f := fs.Lookup(outFlag); f != nil && f.Value.String() == "" {
			return errors.New("-out is empty: expected a folder")
		}
		err = kernel.CheckEnv()
	}
	return err
}

// Spread lets a flag take several values: it returns args with -name a b c replaced by -name a
// -name b -name c.
func Spread(args []string, name string) []string {
	var list []string
	within := false // after a value of the flag
	for i := 0; i < len(args); i++ {
		flag, _, joined := strings.Cut(strings.TrimPrefix(args[i], "-"), "=")
		switch {
		case flag == "-"+name || flag == name && strings.HasPrefix(args[i], "-"):
			list = append(list, args[i])
			if !joined && i+1 < len(args) {
				i++
				list = append(list, args[i])
			}
			within = true
			continue
		case within && !strings.HasPrefix(args[i], "-"):
			list = append(list, "-"+name)
		default:
			within = false
		}
		list = append(list, args[i])
	}
	return list
}

// Given returns the names of the flags that are on the command line.
func Given(fs *flag.FlagSet) map[string]bool {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}

// Exit ends the program with 0, or with 1 and one line on standard error if err is not nil
// and not that of Parse after -help.
func Exit(name string, err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	os.Exit(0)
}
