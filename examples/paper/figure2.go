package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// figure2 is what the projection does: the accuracy of RAT against its step β, the
// distance that an attack moves the spikes of every layer by, and the singular values
// of the weights.
var figure2 = experiment{
	name:  "figure2",
	archs: []string{"vgg11"},
	plan: func(o *options) (needs []need) {
		for _, m := range []method{vanilla, mix, reg, rat} {
			needs = append(needs, need{method: m, unjudged: true})
		}
		for _, beta := range betas {
			needs = append(needs, need{method: rat, beta: beta, trials: betaTrials(o)})
		}
		return needs
	},
	work: func(l *lab) float64 {
		return float64(len(l.subjects)*4*len(distanceRadii)*l.distanceImages()) * distanceTrial(l.options, 8).Work(2)
	},
	report: reportFigure2,
}

// betas are the steps β of figure2.
var betas = []float64{0.0002, 0.001, 0.004, 0.016}

func betaTrials(o *options) []trials.Trial {
	return []trials.Trial{o.trial("FGSM", snn.BPTT{}), o.trial("PGD", snn.BPTR{}), o.trial("PGD", snn.BPTT{})}
}

// distanceRadii are the ε, in 255ths, at which spikes are compared.
var distanceRadii = []float64{2, 4, 8}

func distanceTrial(o *options, eps float64) trials.Trial {
	return trials.New("PGD", snn.BPTT{}, eps, o.TestAlpha, o.TestSteps)
}

// distanceImages is the number of test images over which distances are averaged.
func (l *lab) distanceImages() int { return min(l.subjects[0].Test.N, 256) }

// portrait is what figure2 shows of a network.
type portrait struct {
	Network   string          `json:"network"`
	Distances []layerDistance `json:"distances"`
	Weights   []spectrum      `json:"weights"`
}

// layerDistance is how far an attack moves a layer of neurons, in the mean over images.
type layerDistance struct {
	Layer     string  `json:"layer"`
	Eps       float64 `json:"eps_255"`
	D2        float64 `json:"d2"`
	PerNeuron float64 `json:"d2_per_neuron"` // D₂ over √(neurons·T), in [0,1]
}

// spectrum is the singular values of a weight, largest first.
type spectrum struct {
	Weight         string    `json:"weight"`
	SingularValues []float64 `json:"singular_values"`
}

// anatomy is figure2 of a subject.
type anatomy struct {
	Betas     map[string]*summary  `json:"betas"` // of RAT, by β
	Portraits map[string]*portrait `json:"portraits"`
}

func reportFigure2(ctx context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}}
	all := map[string]*anatomy{}
	for _, s := range l.subjects {
		a := &anatomy{map[string]*summary{}, map[string]*portrait{}}
		for _, n := range l.needs {
			var err error
			if n.beta != 0 {
				a.Betas[fmt.Sprint(n.beta)], err = l.summarize(s, n)
			} else {
				a.Portraits[n.method.Name], err = l.portray(ctx, s, l.loaded[l.network(s, n).name])
			}
			if err != nil {
				return nil, err
			}
		}
		all[s.String()] = a
		text := fmt.Sprintf("%v\n", s)
		for _, part := range []struct {
			name string
			draw func(*lab, *anatomy) (plots.Figure, string)
		}{
			{"figure2-beta", drawBetas}, {"figure2-distance", drawDistances}, {"figure2-singular-values", drawSpectra},
		} {
			f, t := part.draw(l, a)
			f.Title += ": " + s.String() + "\n" + l.shortScale()
			r.figures[l.fileName(part.name, s)] = f
			text += "\n" + t
		}
		r.text += text
	}
	r.results = all
	return r, nil
}

// portray measures a network.
func (l *lab) portray(ctx context.Context, s subject, j *judged) (*portrait, error) {
	p := &portrait{Network: j.name}
	for _, eps := range distanceRadii {
		layers, err := l.distances(ctx, s, j, distanceTrial(l.options, eps))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.name, err)
		}
		p.Distances = append(p.Distances, layers...)
	}
	for _, w := range j.model.Params() {
		if len(w.Shape) < 2 {
			continue
		}
		values, err := lipschitz.SingularValues(w)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", j.name, w.Name, err)
		}
		p.Weights = append(p.Weights, spectrum{w.Name, values})
	}
	return p, nil
}

// distances attacks a network and returns how far its layers move.
func (l *lab) distances(ctx context.Context, s subject, j *judged, t trials.Trial) (layers []layerDistance, err error) {
	const batch = 32
	n := l.distanceImages()
	for from := 0; from < n; from += batch {
		count := min(batch, n-from)
		x, y := tensor.NewNCHW(count, s.Test.C, s.Test.H, s.Test.W), make([]int, count)
		indices, ids := make([]int, count), make([]uint64, count)
		keys := make([]rng.Key, count)
		for i := range indices {
			indices[i], ids[i], y[i] = from+i, uint64(from+i), s.Test.Label(from+i)
			keys[i] = l.archive.key().Derive("image", ids[i])
		}
		if err := s.Test.Fill(x, indices); err != nil {
			return nil, err
		}
		adv, err := t.Perturber().Perturb(ctx, j.model, x, y, ids, l.archive.key().Derive(t.String(), 0))
		if err != nil {
			return nil, err
		}
		profile, err := lipschitz.Profile(j.model, 2, x, adv, keys)
		if err != nil {
			return nil, err
		}
		for k, d := range profile {
			if from == 0 {
				layers = append(layers, layerDistance{Layer: d.Layer, Eps: t.Eps})
			}
			per := d.PerNeuron()
			for i := range d.D {
				layers[k].D2 += d.D[i] / float64(n)
				layers[k].PerNeuron += per[i] / float64(n)
			}
		}
		l.meter.Add(float64(count)*t.Work(2), fmt.Sprintf("%s: spike distances, ε = %v/255", j.name, t.Eps))
	}
	return layers, nil
}

// drawBetas shows the accuracy of RAT against β.
func drawBetas(l *lab, a *anatomy) (plots.Figure, string) {
	f := plots.Figure{Title: "RAT against β", X: "β", Y: "accuracy (%)", XTicks: betas, LogX: true, YTicks: []float64{0, 20, 40, 60, 80, 100}}
	t := table{{"Accuracy in % against β"}}
	list := append([]trials.Trial{trials.Clean}, betaTrials(l.options)...)
	for i, tr := range list {
		line := plots.Line{Name: strings.TrimSpace(tr.Attack + " " + tr.Gradient), Color: i}
		t[0] = append(t[0], line.Name)
		for _, beta := range betas {
			sum := a.Betas[fmt.Sprint(beta)]
			line.X, line.Y = append(line.X, beta), append(line.Y, 100*sum.Outcomes[i].Accuracy)
		}
		f.Lines = append(f.Lines, line)
	}
	t[0] = append(t[0], "worst case")
	for _, beta := range betas {
		t.score(fmt.Sprint(beta), a.Betas[fmt.Sprint(beta)], list)
	}
	return f, t.String()
}

// pairs are the networks that figure2 sets side by side: without the projection and
// with it, on clean and on adversarial examples.
var pairs = []method{vanilla, reg, mix, rat}

// drawDistances shows the spike distance of every layer, of the vanilla network and of
// its twin with the projection.
func drawDistances(l *lab, a *anatomy) (plots.Figure, string) {
	f := plots.Figure{
		Title: "spike distance under PGD", X: "layer of neurons", Y: "D₂ per neuron and step",
	}
	t := table{{"Mean D₂/√(neurons·T)", "ε"}}
	for i, m := range pairs {
		p := a.Portraits[m.Name]
		for k, eps := range distanceRadii {
			line := plots.Line{Name: fmt.Sprintf("%s, ε = %v/255", m.Name, eps), Color: k, Dashed: m == vanilla}
			row := []string{m.Name, fmt.Sprintf("%v/255", eps)}
			for _, d := range p.Distances {
				if d.Eps == eps {
					line.X, line.Y = append(line.X, float64(len(line.X)+1)), append(line.Y, d.PerNeuron)
					row = append(row, fmt.Sprintf("%.3f", d.PerNeuron))
				}
			}
			if i == 0 && k == 0 {
				for _, x := range line.X {
					f.XTicks = append(f.XTicks, x)
					t[0] = append(t[0], fmt.Sprintf("layer %v", x))
				}
			}
			t.add(row...)
			if m == vanilla || m == reg {
				f.Lines = append(f.Lines, line)
			}
		}
	}
	return f, t.String()
}

// drawSpectra shows how the singular values of all weights are distributed.
func drawSpectra(l *lab, a *anatomy) (plots.Figure, string) {
	const bin, most = 0.1, 3.0
	f := plots.Figure{Title: "singular values of all weights", X: "singular value", Y: "share (%)", XTicks: []float64{0, 0.5, 1, 1.5, 2, 2.5, 3}}
	t := table{{"Singular values, share in %", "below 0.5", "0.5 to 0.9", "0.9 to 1.1", "1.1 to 1.5", "above 1.5", "largest"}}
	for i, m := range pairs {
		shares := make([]float64, int(most/bin)+1) // the last: beyond
		limits, counts := []float64{0.5, 0.9, 1.1, 1.5}, make([]float64, 5)
		var n, largest float64
		for _, w := range a.Portraits[m.Name].Weights {
			for _, v := range w.SingularValues {
				shares[min(int(v/bin), len(shares)-1)]++
				k := 0
				for k < len(limits) && v >= limits[k] {
					k++
				}
				counts[k]++
				n++
				largest = max(largest, v)
			}
		}
		line := plots.Line{Name: m.Name, Color: i, Dashed: !m.Reg, Unmarked: true}
		for k, c := range shares[:len(shares)-1] {
			line.X, line.Y = append(line.X, (float64(k)+0.5)*bin), append(line.Y, 100*c/n)
		}
		f.Lines = append(f.Lines, line)
		row := []string{m.Name}
		for _, c := range counts {
			row = append(row, percent(c/n))
		}
		t.add(append(row, fmt.Sprintf("%.2f", largest))...)
	}
	return f, t.String()
}
