package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// modelled are the parts of which the sweep of cores makes a model: the gradient is that of BPTT.
var modelled = []string{"forward", "gradient", "train", "regularize"}

// coresPoint is what the model says of a part on a number of cores.
type coresPoint struct {
	Cores   int     `json:"cores"`
	Part    string  `json:"part"`
	MS      float64 `json:"ms"`       // an image; regularize: an update
	Work    float64 `json:"work_ms"`  // of all units and what is serial, alike
	Serial  float64 `json:"serial"`   // share of the work that is serial
	Units   int     `json:"units"`    // half of the work is in loops of fewer units, half in others
	Loops   int     `json:"loops"`    // loops that split their work
	SpeedUp float64 `json:"speed_up"` // Work / MS
}

// sweepCores models the parts on more cores than the machine has.
func sweepCores(ctx context.Context, o options, stdout, stderr io.Writer) error {
	counts := []int{1, 2, 4, 8, 16, 32, 64}
	m, err := zoo.New(o.config(), rng.New(1))
	if err != nil {
		return err
	}
	x, y := randomImages(o.batch, m)
	if err := warmUp(m, x, y); err != nil {
		return err
	}
	jobs, err := newJobs(ctx, m, x, y)
	if err != nil {
		return err
	}
	jobs["gradient"] = func() error { _, err := m.InputGradient(snn.Pass{}, x, loss(y)); return err }
	start := startOfLoop()
	meter := term.NewMeter(stderr, float64(len(counts)*len(modelled)))
	var points []coresPoint
	for _, n := range counts {
		m.Threads = n
		for _, part := range modelled {
			var runs []coresPoint
			for range o.reps {
				if err = ctx.Err(); err == nil {
					r := parallel.Record(func() { err = jobs[part]() })
					runs = append(runs, model(r, n, start))
				}
				if err != nil {
					break
				}
			}
			if err != nil {
				break
			}
			slices.SortFunc(runs, func(a, b coresPoint) int { return int(1e6 * (a.Work - b.Work)) })
			p := runs[0]
			p.Cores, p.Part = n, part
			p.MS, p.Work = perImage(part, p.MS, o.batch), perImage(part, p.Work, o.batch)
			points = append(points, p)
			meter.Add(1, fmt.Sprintf("%d cores, %s", n, part))
		}
		if err != nil {
			break
		}
	}
	meter.Clear()
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "part\tcores\tms\tspeed-up\tserial\tunits\tloops\t\n")
	for _, part := range modelled {
		for _, p := range points {
			if p.Part == part {
				fmt.Fprintf(w, "%s\t%d\t%.2f\t%.1f\t%.2f %%\t%d\t%d\t\n", part, p.Cores, p.MS, p.SpeedUp, 100*p.Serial, p.Units, p.Loops)
			}
		}
	}
	return errors.Join(err, w.Flush(), o.save(map[string]any{"kernel": kernel.CurrentLevel().String(), "points": points, "start_of_loop_us": start.Seconds() * 1e6}))
}

// startOfLoop returns the time of a loop without work on two threads.
func startOfLoop() time.Duration {
	const n = 10000
	start := time.Now()
	for range n {
		parallel.For(2, 2, func(int) {})
	}
	return time.Since(start) / n
}

// model returns the times of a recording on n cores, in milliseconds.
func model(r *parallel.Recording, n int, start time.Duration) coresPoint {
	work, all := r.Serial, r.Serial
	for _, l := range r.Loops {
		work += l.Work
		all += parallel.Makespan(l.Units, n)
	}
	for c := 1; c < n; c *= 2 { // threads wake each other
		all += time.Duration(len(r.Loops)) * start
	}
	p := coresPoint{MS: all.Seconds() * 1e3, Work: work.Seconds() * 1e3, Serial: float64(r.Serial) / float64(work), Loops: len(r.Loops), SpeedUp: float64(work) / float64(all)}
	loops := slices.SortedFunc(slices.Values(r.Loops), func(a, b parallel.Loop) int { return len(a.Units) - len(b.Units) })
	half := (work - r.Serial) / 2
	for _, l := range loops {
		if p.Units = len(l.Units); half <= l.Work {
			break
		}
		half -= l.Work
	}
	return p
}
