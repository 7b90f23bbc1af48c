package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
)

// contender is one of the forward passes that -integers compares: its name, and a function that
// returns the time of an image in milliseconds.
type contender struct {
	name string
	turn func() (ms float64, err error)
	ms   []float64 // of each round
}

// integers measures the forward pass of the network of integers, that of the float32 network and,
// with -against, that of another program. They take turns.
func integers(ctx context.Context, o options, stdout, stderr io.Writer) error {
	m, err := o.network()
	if err != nil {
		return err
	}
	x, y := randomImages(o.batch, m)
	if o.peer != "" {
		x, y, err = loadPeer(m, o.peer)
	} else {
		err = warmUp(m, x, y)
	}
	if err != nil {
		return err
	}
	q, err := quant.Convert(m, quant.DefaultConfig())
	if err != nil {
		return err
	}
	logits, err := m.Logits(snn.Pass{}, x)
	if err != nil {
		return err
	}
	classes, err := q.Predict(x)
	if err != nil {
		return err
	}
	same := 0
	for i, c := range classes {
		if row := logits[i*m.Classes():][:m.Classes()]; row[c] == slices.Max(row) {
			same++
		}
	}
	here := func(name string, fn func() error) *contender {
		return &contender{name: name, turn: func() (float64, error) {
			var ms []float64
			for start := time.Now(); len(ms) == 0 || time.Since(start) < turnTime; {
				if err := ctx.Err(); err != nil {
					return 0, err
				}
				begin := time.Now()
				if err := fn(); err != nil {
					return 0, err
				}
				ms = append(ms, time.Since(begin).Seconds()*1e3/float64(x.N))
			}
			return median(ms), nil
		}}
	}
	all := []*contender{
		here("integers", func() error { _, err := q.Logits(x); return err }),
		here("float32", func() error { _, err := m.Logits(snn.Pass{}, x); return err }),
	}
	if o.against != "" {
		folder := o.peer
		if folder == "" {
			if folder, err = os.MkdirTemp("", "bench-"); err != nil {
				return err
			}
			defer os.RemoveAll(folder)
			if err := export(m, x, y, folder); err != nil {
				return err
			}
		}
		them := &side{name: "-against " + o.against, label: "other side", command: command(o.against), flags: o.flags(folder)}
		defer them.stop()
		if err := them.start(ctx); err != nil {
			return err
		}
		all = append(all, &contender{name: them.report.Kernel, turn: func() (float64, error) { return them.turn(ctx, "forward") }})
	}
	meter := term.NewMeter(stderr, 1)
	rounds := -1 // the first one has cold caches
	for ; rounds < o.reps && err == nil; rounds++ {
		for _, c := range all {
			var ms float64
			if ms, err = c.turn(); err != nil {
				break
			}
			c.ms = append(c.ms, ms)
			meter.Add(1/float64(len(all)*(o.reps+1)), c.name)
		}
	}
	meter.Clear()
	if err != nil {
		rounds-- // that one is not complete
	}
	if rounds < 1 {
		return err
	}

	weights, floats := 0, 0
	for _, l := range q.Layers {
		if c, ok := l.(*quant.Conv); ok {
			weights += len(c.Weight) + 4*len(c.Scale)
		}
	}
	for _, p := range m.Params() {
		floats += 4 * p.Len()
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s, T = %d, %d images, %d threads, %s, %d rounds; milliseconds an image\n",
		o.arch, o.steps, x.N, parallel.Threads(0), kernel.CurrentLevel(), rounds)
	fmt.Fprintln(w, "forward\ttime\trange\tintegers are faster\trange\t")
	for _, c := range all {
		c.ms = c.ms[1 : rounds+1]
		fmt.Fprintf(w, "%s\t%.2f\t%.2f to %.2f\t", c.name, median(c.ms), slices.Min(c.ms), slices.Max(c.ms))
		if c != all[0] {
			ratios := make([]float64, len(c.ms))
			for i, ms := range c.ms {
				ratios[i] = ms / all[0].ms[i]
			}
			fmt.Fprintf(w, "%.2f×\t%.2f to %.2f\t", median(ratios), slices.Min(ratios), slices.Max(ratios))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "weights take %.3f of the memory; %d of %d images have the same class\n",
		float64(weights)/float64(floats), same, x.N)
	return errors.Join(err, w.Flush())
}
