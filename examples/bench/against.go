package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/parallel"
)

// comparison is the result of -against.
type comparison struct {
	Command string            `json:"command"`
	Turns   string            `json:"turns"`  // what took turns: "parts", or "runs" of all parts
	Other   *report           `json:"other"`  // figures of the other side
	Rounds  map[string]times  `json:"rounds"` // by part
	Ratios  map[string]spread `json:"ratios"` // by part: the other side's time over ours
}

// times are the times of a part in each round, as in report.
type times struct {
	Ours   []float64 `json:"ours"`
	Theirs []float64 `json:"theirs"`
}

// spread is the median of some numbers, and their range.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// against measures this build and another program in turns. After an error it still prints
// and writes what was completed.
func against(ctx context.Context, o options, stdout, stderr io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	folder, expected := o.peer, "-peer"
	if folder == "" {
		folder, expected = work, "snnrat"
		if err := o.export(folder); err != nil {
			return err
		}
		debug.FreeOSMemory() // this process only waits from here on
	}
	us := &side{name: "this build", label: "snnrat", command: []string{program}, flags: o.flags(folder)}
	them := &side{name: "-against " + o.against, label: "other side", command: command(o.against), flags: o.flags(folder)}
	defer us.stop()
	defer them.stop()

	d := &comparison{Command: o.against, Turns: "parts", Rounds: map[string]times{}, Ratios: map[string]spread{}}
	meter := term.NewMeter(stderr, 1)
	if err = us.start(ctx); err == nil {
		err = them.start(ctx)
	}
	switch {
	case err == nil:
		err = d.parts(ctx, us, them, o.reps, meter)
	case errors.Is(err, errNoServe):
		d.Turns = "runs"
		us.stop()
		err = d.runs(ctx, us, them, o.reps, filepath.Join(work, "figures.json"), meter)
	}
	meter.Clear()
	if len(d.Rounds) == 0 {
		return err
	}
	us.report.Against, d.Other = d, them.report
	d.summarize(us.report)
	if o.peer != "" {
		err = errors.Join(err, printChecks(stdout, "snnrat against -peer", us.report.Checks))
	}
	if len(them.report.Checks) > 0 {
		err = errors.Join(err, printChecks(stdout, "other side against "+expected, them.report.Checks))
	}
	return errors.Join(err, d.print(stdout, us.report), o.save(us.report))
}

// command returns the program and the arguments of a command. A Python script is run with
// python3.
func command(text string) []string {
	words := strings.Fields(text)
	if filepath.Ext(words[0]) == ".py" {
		words = slices.Insert(words, 0, "python3")
	}
	return words
}

// export writes the network and the images to a folder.
func (o options) export(folder string) error {
	m, x, y, err := o.warm()
	if err != nil {
		return err
	}
	return export(m, x, y, folder)
}

// flags returns the flags of a side, which loads the network and images of a folder.
func (o options) flags(folder string) []string {
	flags := []string{"-peer", folder, "-arch", o.arch}
	add := func(name string, value any) { flags = append(flags, "-"+name, fmt.Sprint(value)) }
	add("width", o.width)
	add("T", o.steps)
	if o.peer == "" || o.given["batch"] {
		add("batch", o.batch)
	}
	add("threads", parallel.Threads(0))
	return flags
}

// turnTime is the least time of a turn. A part that is shorter is repeated.
var turnTime = 200 * time.Millisecond

// parts measures in turns of parts: for each part, reps rounds of one turn of each side.
func (d *comparison) parts(ctx context.Context, us, them *side, reps int, meter *term.Meter) error {
	if err := them.report.sameNetwork(us.report); err != nil {
		return fmt.Errorf("%s: computes %w", them.name, err)
	}
	sides := []*side{us, them}
	// One run of each part tells how long the others will take.
	once, all := map[string]time.Duration{}, time.Duration(0)
	for _, part := range timedParts {
		start := time.Now()
		for _, s := range sides {
			meter.Add(0, part+", "+s.label)
			if _, err := s.ask(ctx, part); err != nil {
				return err
			}
		}
		once[part] = max(time.Since(start), 2*turnTime)
		all += once[part]
	}
	for _, part := range timedParts {
		var got [2][]float64
		for range reps + 1 {
			for i, s := range sides {
				ms, err := s.turn(ctx, part)
				if err != nil {
					return err
				}
				got[i] = append(got[i], ms)
				meter.Add(float64(once[part])/float64(all)/float64(2*(reps+1)), part+", "+s.label)
			}
		}
		meter.Finished(part)
		d.Rounds[part] = times{got[0][1:], got[1][1:]} // the first turn has cold caches
		us.report.PeakMB, them.report.PeakMB = us.peak, them.peak
	}
	return nil
}

// runs measures in turns of runs of all parts: reps rounds of one run of each side, which
// writes its figures to file.
func (d *comparison) runs(ctx context.Context, us, them *side, reps int, file string, meter *term.Meter) error {
	for i := range reps {
		round := fmt.Sprintf("round %d of %d", i+1, reps)
		var rs [2]*report
		for j, s := range []*side{us, them} {
			meter.Add(0, round+", "+s.label)
			var err error
			if rs[j], err = s.run(ctx, file); err != nil {
				return err
			}
			if i == 0 {
				s.report = rs[j]
			}
			s.report.PeakMB = max(s.report.PeakMB, rs[j].PeakMB)
			meter.Add(1/float64(2*reps), round+", "+s.label)
		}
		if err := rs[1].sameNetwork(rs[0]); err != nil {
			return fmt.Errorf("%s: computes %w", them.name, err)
		}
		for _, part := range timedParts {
			t := d.Rounds[part]
			d.Rounds[part] = times{append(t.Ours, rs[0].MS[part]), append(t.Theirs, rs[1].MS[part])}
		}
		meter.Finished(round)
	}
	return nil
}

// rateTolerance is the largest difference of a layer's mean firing rates. A few spikes
// differ, because other sums round otherwise.
const rateTolerance = 0.01

// sameNetwork returns an error that says what r is of if it is of another task or another
// network than want.
func (r *report) sameNetwork(want *report) error {
	if err := r.sameTask(want); err != nil {
		return err
	}
	if len(r.Rates) != len(want.Rates) {
		return fmt.Errorf("firing rates of %d layers: expected %d", len(r.Rates), len(want.Rates))
	}
	for i, rate := range r.Rates {
		if !(math.Abs(rate-want.Rates[i]) <= rateTolerance) {
			return fmt.Errorf("a firing rate of %v in layer %d: expected %v within %v", rate, i, want.Rates[i], rateTolerance)
		}
	}
	return nil
}

// summarize sets the medians of both sides, and the ratios.
func (d *comparison) summarize(ours *report) {
	var rat times
	for i := range min(len(d.Rounds["train"].Ours), len(d.Rounds["fgsm_bptt"].Ours), len(d.Rounds["fgsm_bptr"].Ours)) {
		us, them := map[string]float64{}, map[string]float64{}
		for part, t := range d.Rounds {
			if i < len(t.Ours) {
				us[part], them[part] = t.Ours[i], t.Theirs[i]
			}
		}
		rat = times{append(rat.Ours, ratTime(us)), append(rat.Theirs, ratTime(them))}
	}
	if rat.Ours != nil {
		d.Rounds["rat"] = rat
	}
	ours.MS, d.Other.MS = map[string]float64{}, map[string]float64{}
	for part, t := range d.Rounds {
		ours.MS[part], d.Other.MS[part] = median(t.Ours), median(t.Theirs)
		ratios := make([]float64, len(t.Ours))
		for i := range ratios {
			ratios[i] = t.Theirs[i] / t.Ours[i]
		}
		d.Ratios[part] = spread{median(ratios), slices.Min(ratios), slices.Max(ratios)}
	}
}

// median returns the median of at least one number.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (d *comparison) print(stdout io.Writer, r *report) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	mean := 0.0
	for _, rate := range r.Rates {
		mean += rate / float64(len(r.Rates))
	}
	fmt.Fprintf(w, "%s, T = %d, %d images, %d threads, %s, mean firing rate %.1f %%; milliseconds an image (regularize: an update)\n",
		r.Arch, r.T, r.Batch, r.Threads, r.Kernel, 100*mean)
	fmt.Fprintf(w, "other side: %s (%s); %s took turns\n", d.Command, d.Other.Kernel, d.Turns)
	fmt.Fprintln(w, "part\tsnnrat\tother side\tratio\trange\trounds\t")
	for _, part := range parts {
		if s, ok := d.Ratios[part]; ok {
			fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f×\t%.2f to %.2f\t%d\t\n",
				part, r.MS[part], d.Other.MS[part], s.Median, s.Min, s.Max, len(d.Rounds[part].Ours))
		}
	}
	if r.PeakMB > 0 && d.Other.PeakMB > 0 {
		fmt.Fprintf(w, "peak memory, MB\t%.2f\t%.2f\t%.2f×\t\t\t\n", r.PeakMB, d.Other.PeakMB, d.Other.PeakMB/r.PeakMB)
	}
	return w.Flush()
}
