package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// side is one of the two programs that take turns.
type side struct {
	name    string   // in errors
	label   string   // in the progress and in tables
	command []string // program and first arguments
	flags   []string // arguments that follow
	report  *report  // what it computes
	peak    float64  // of its memory in MB, as in report

	process *exec.Cmd // nil if it does not run
	kill    context.CancelFunc
	stdin   io.WriteCloser
	answers *bufio.Scanner
	stderr  tail
}

// errNoServe is the error of start if the program has no flag -serve.
var errNoServe = errors.New("no flag -serve")

// prepare returns the program with args before its other flags. The end of ctx and kill kill
// it.
func (s *side) prepare(ctx context.Context, args ...string) *exec.Cmd {
	ctx, s.kill = context.WithCancel(ctx)
	c := exec.CommandContext(ctx, s.command[0], slices.Concat(s.command[1:], args, s.flags)...)
	s.stderr = nil
	c.Stderr = &s.stderr
	c.WaitDelay = time.Second // for its children, which can hold its standard error
	return c
}

// start starts the program, to be asked for parts, and reads what it computes.
func (s *side) start(ctx context.Context) (err error) {
	c := s.prepare(ctx, "-serve")
	if s.stdin, err = c.StdinPipe(); err != nil {
		return err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	s.answers = bufio.NewScanner(stdout)
	s.answers.Buffer(nil, figuresBudget)
	if err := c.Start(); err != nil {
		s.kill()
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.process = c
	if !s.answers.Scan() {
		err := s.fail(ctx, "ended before it said what it computes")
		if strings.Contains(string(s.stderr), "flag provided but not defined: -serve") && ctx.Err() == nil {
			return errNoServe
		}
		return err
	}
	s.report = new(report)
	if json.Unmarshal(s.answers.Bytes(), s.report) != nil || s.report.Arch == "" {
		return s.fail(ctx, fmt.Sprintf(`says %.100q: expected what it computes, {"arch":…}`, s.answers.Text()))
	}
	return nil
}

// ask runs a part once and returns its time.
func (s *side) ask(ctx context.Context, part string) (ms float64, err error) {
	fmt.Fprintln(s.stdin, part) // if this fails, there is no answer
	if !s.answers.Scan() {
		return 0, s.fail(ctx, part+": ended without an answer")
	}
	var a answer
	if json.Unmarshal(s.answers.Bytes(), &a) != nil || a.Part != part || !(a.MS > 0) {
		return 0, s.fail(ctx, fmt.Sprintf(`%s: answers %.100q: expected {"part":%q,"ms":…} with a positive time`, part, s.answers.Text(), part))
	}
	s.peak = a.PeakMB
	return a.MS, nil
}

// turn runs a part until turnTime is over and returns the median of its times.
func (s *side) turn(ctx context.Context, part string) (ms float64, err error) {
	var got []float64
	for start := time.Now(); got == nil || time.Since(start) < turnTime; {
		if ms, err = s.ask(ctx, part); err != nil {
			return 0, err
		}
		got = append(got, ms)
	}
	return median(got), nil
}

// run runs the program as one that has no flag -serve: all parts, each measured once. It
// returns the figures that the program writes to file.
func (s *side) run(ctx context.Context, file string) (*report, error) {
	if err := os.RemoveAll(file); err != nil {
		return nil, err
	}
	c := s.prepare(ctx, "-reps", "1", "-json", file)
	defer s.kill()
	if err := c.Run(); err != nil {
		return nil, s.explain(ctx, "failed to run all parts", err)
	}
	r, err := readFigures(file)
	if err != nil {
		return nil, s.explain(ctx, "wrote no figures", err)
	}
	for _, part := range timedParts {
		if !(r.MS[part] > 0) {
			return nil, fmt.Errorf("%s: %s: its figures have the time %v: expected a positive one", s.name, part, r.MS[part])
		}
	}
	return r, nil
}

// stop ends the standard input of the program, which ends the program, and returns its
// status. A program that is still there after 2 seconds is killed.
func (s *side) stop() error {
	if s.process == nil {
		return nil
	}
	defer s.kill()
	s.stdin.Close()
	defer time.AfterFunc(2*time.Second, s.kill).Stop()
	err := s.process.Wait()
	s.process = nil
	return err
}

// fail stops the program and returns the error that it did what was not expected.
func (s *side) fail(ctx context.Context, did string) error { return s.explain(ctx, did, s.stop()) }

// explain returns the error that the program did what was not expected, with more on it if
// that is not nil, and the last line of the program's standard error. If ctx ends, explain
// returns its error. Ctrl-C in a terminal goes to all programs, so the other one can end
// before ctx does.
func (s *side) explain(ctx context.Context, did string, more error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(200 * time.Millisecond):
	}
	text := s.name + ": " + did
	if more != nil {
		text += ": " + more.Error()
	}
	if line := s.stderr.lastLine(); line != "" {
		text += ": " + line
	}
	return errors.New(text)
}

// tail holds the end of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-1<<12):]
	return len(b), nil
}

// lastLine returns the last line that is not empty.
func (t tail) lastLine() string {
	text := strings.TrimSpace(string(t))
	return text[strings.LastIndex(text, "\n")+1:]
}
