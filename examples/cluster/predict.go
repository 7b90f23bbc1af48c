package main

import (
	"fmt"
	"io"

	"github.com/org/snnrat/snn"
)

// link is a network between machines.
type link struct {
	name    string
	rate    float64 // bytes per second that a machine sends while it receives as many
	latency float64 // seconds from one Share to the next of small messages between two ranks
}

// links are those of docs/scaling.md.
var links = []link{
	{"10 Gbit/s", 10e9 / 8, 300e-6},
	{"100 Gbit/s", 100e9 / 8, 300e-6},
}

// costs are what a step is made of.
type costs struct {
	passes  float64 // seconds of one machine for the passes of a step, the attack's included
	project float64 // seconds of a machine for the projection, which every rank makes
	values  int     // of all parameters, padding included
	shares  int     // messages that wait for all ranks
	message float64 // their mean size in bytes
}

// backward is the share of the passes during which gradients are sent.
const backward = 0.3

// step returns the seconds of a step on n machines.
func (c costs) step(n int, l link) float64 {
	if n == 1 {
		return c.passes + c.project
	}
	others := float64(n - 1)
	bytes := 2 * 4 * float64(c.values) * others / float64(n)
	// Half of the bytes are gradients, and the weights of a layer follow its gradients.
	exposed := max(bytes/l.rate-backward*c.passes/float64(n), 0)
	return c.passes/float64(n) + c.project + exposed + float64(c.shares)*(l.latency+others*c.message/l.rate)
}

// costsOf returns the costs of a RAT step of a model.
func costsOf(m *snn.Model, passes, project float64) costs {
	c := costs{passes: passes, project: project, shares: 7}
	for _, p := range m.Params() {
		c.values += len(p.Data())
	}
	for _, r := range m.Summary().Rows {
		if _, ok := r.Layer.(*snn.BatchNorm); ok {
			c.shares += 2 // forward and backward
			c.message += 2 * 2 * 8 * float64(r.Out.C)
		}
	}
	c.message /= float64(c.shares)
	return c
}

// predict prints the time of a step, and the speed-up, on 1 to 64 machines.
func predict(out io.Writer, c costs) {
	fmt.Fprintf(out, "%.1f million values, %d messages a step of %.0f bytes on average\n\n| machines |", float64(c.values)/1e6, c.shares, c.message)
	for _, l := range links {
		fmt.Fprintf(out, " %s | speed-up |", l.name)
	}
	fmt.Fprintf(out, "\n|---|---|---|---|---|\n")
	for n := 1; n <= 64; n *= 2 {
		fmt.Fprintf(out, "| %d |", n)
		for _, l := range links {
			t := c.step(n, l)
			fmt.Fprintf(out, " %.2f s | %.1f |", t, c.step(1, l)/t)
		}
		fmt.Fprintln(out)
	}
}
