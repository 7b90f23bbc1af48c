package attack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// zeros is check 4.
func (p *probe) zeros(ctx context.Context, c *Check) error {
	met, zero := 0, 0
	for _, r := range p.report.Results {
		gradients, zeros := 0, 0
		for _, t := range r.Trials {
			gradients += t.Gradients
			zeros += t.Zeros
		}
		if gradients > 0 {
			met++
			if zeros*2 > gradients {
				zero++
			}
		}
	}
	w := &watch{Gradient: p.gradient, zero: map[string]int{}, all: map[string]int{}}
	_, err := p.broken(ctx, "zeros", &Attack{
		Objective: Margin{}, Gradient: w, Norm: p.Threat.Norm, Start: InBall{}, Eps: p.Threat.Eps, Alpha: p.Threat.Eps, Steps: 1,
		KeepBest: true, SharedFrames: p.Threat.PerFrame,
	})
	if err != nil {
		return err
	}
	still, err := p.still()
	if err != nil {
		return err
	}
	worst, share := "", -1.0
	for _, name := range slices.Sorted(maps.Keys(w.all)) {
		if s := float64(w.zero[name]) / float64(w.all[name]); s > share {
			worst, share = name, s
		}
	}
	c.Text = fmt.Sprintf("%d of %d images had mostly zero gradients.", zero, met)
	if worst != "" {
		c.Text += fmt.Sprintf(" Of the layers, %s has the most zeros: %.1f %% of the gradients of its currents.", worst, 100*share)
	}
	if zero*100 > met {
		c.raise(Warning, "Where the gradient is zero an attack stands still: use wider surrogates, or searches by score.")
	}
	if share > 0.99 {
		c.raise(Fault, fmt.Sprintf("Hardly any gradient passes layer %s: use a wider surrogate there.", worst))
	}
	if len(still) > 0 {
		c.raise(Fault, fmt.Sprintf("Layer %s hardly reacts to its input: at least 99 %% of its neurons fire always or never. Only searches by score see past it.", strings.Join(still, ", ")))
	}
	return nil
}

// still returns the layers at least 99 % of whose neurons fire at all steps or at none, for each
// of the probe images.
func (p *probe) still() (layers []string, err error) {
	moves := map[string]float64{} // the largest share of neurons that do neither
	var order []string
	for _, i := range p.images[:min(16, len(p.images))] {
		x, err := p.read(i)
		if err != nil {
			return nil, err
		}
		pass := snn.Pass{OnSpikes: func(layer string, s *tensor.Spikes) {
			if _, ok := moves[layer]; !ok {
				order = append(order, layer)
			}
			moves[layer] = max(moves[layer], changing(s))
		}}
		if _, err := p.model.Logits(pass, x); err != nil {
			return nil, err
		}
	}
	if p.model.Steps == 1 {
		return nil, nil // a neuron of one step fires always or never
	}
	for _, name := range order {
		if moves[name] < 0.01 {
			layers = append(layers, name)
		}
	}
	return layers, nil
}

// changing returns the share of neurons that fire at some steps, but not at all of them.
func changing(s *tensor.Spikes) float64 {
	sh := s.Shape
	some := 0
	for n := range sh.N {
		for c := range sh.C {
			for y := range sh.H {
				for x := range sh.W {
					fired := 0
					for t := range sh.Steps {
						if s.At(n, t, c, y, x) {
							fired++
						}
					}
					if fired > 0 && fired < sh.Steps {
						some++
					}
				}
			}
		}
	}
	return float64(some) / float64(sh.N*sh.Neurons())
}

// watch is a gradient approximation that counts the zeros among the gradients of every layer's
// currents.
type watch struct {
	snn.Gradient
	mu        sync.Mutex
	zero, all map[string]int // gradients by layer
}

// Fire implements [snn.Gradient].
func (w *watch) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	x := autograd.Densify(p.Tape, current)
	y := p.Tape.NewDense(x.Shape(), x.NeedsGrad())
	copy(p.Tape.Floats(y), p.Tape.Floats(x))
	p.Tape.Record(&watched{w, n.Name(), x, y})
	if x != current {
		p.Tape.Release(x)
	}
	out := w.Gradient.Fire(p, n, y)
	if out != y {
		p.Tape.Release(y)
	}
	return out
}

// watched is the identity, whose backward pass counts zeros.
type watched struct {
	w    *watch
	name string
	x, y *autograd.Value
}

func (o *watched) Output() *autograd.Value { return o.y }

func (o *watched) Backward(t *autograd.Tape) {
	g, steps := t.Grad(o.y)
	sh := o.y.Shape()
	some := 0
	for _, v := range g {
		if v != 0 {
			some++
		}
	}
	t.AddGrad(o.x, g, steps)
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	all := sh.N * steps * sh.Neurons() // without the lanes beyond the channels, which are zero
	o.w.zero[o.name] += all - some
	o.w.all[o.name] += all
}
