package lipschitz_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// quick returns a fast search.
func quick() lipschitz.BoundSearch {
	o := lipschitz.DefaultBoundSearch()
	o.Lambda = lipschitz.LambdaSearch{Starts: 4}
	o.Conv.Lanczos.Tol, o.Conv.MaxDense = 0.01, 0
	return o
}

// bound returns the bounds of all connections of m, from a fast search.
func bound(t testing.TB, m *snn.Model) (bounds []*lipschitz.ConnectionBounds) {
	t.Helper()
	connections, err := lipschitz.Connections(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range connections {
		b, err := c.Bound(t.Context(), m.Steps, quick())
		if err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, b)
	}
	return bounds
}

// TestMeasureAmplification checks every bound against the measured value. It uses networks
// with every kind of layer and perturbations of one pixel up to all pixels.
func TestMeasureAmplification(t *testing.T) {
	for name, m := range networks(t) {
		t.Run(name, func(t *testing.T) {
			bounds := bound(t, m)
			clean := images(4, m.Channels, m.Height, m.Width, 3)
			perturbed := tensor.NewNCHW(clean.N, clean.C, clean.H, clean.W)
			copy(perturbed.Data, clean.Data)
			r := rng.New(4).Rand()
			for n := range clean.N {
				for i := range clean.Pixels() {
					if v := &perturbed.Data[n*clean.Pixels()+i]; n == 0 && i == 7 || n > 1 {
						*v += (r.Float32() - *v) * float32(n+1) / 5
					}
				}
			}
			keys := []rng.Key{rng.New(1), rng.New(2), rng.New(3), rng.New(4)}
			got, err := lipschitz.MeasureAmplification(m, bounds, clean, perturbed, keys)
			if err != nil {
				t.Fatal(err)
			}
			profile, err := lipschitz.SpikeDistances(m, 2, clean, perturbed, keys)
			if err != nil {
				t.Fatal(err)
			}
			currents, err := lipschitz.CurrentDistances(m, 2, clean, perturbed, keys)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(profile) {
				t.Fatalf("%d layers, want %d", len(got), len(profile))
			}
			out := map[string][]float64{}
			tight := 0.0
			for k, a := range got {
				b := bounds[k]
				out[a.Layer] = a.Out
				if a.Layer != profile[k].Layer || a.Neurons != profile[k].Shape.Neurons() || a.Steps != m.Steps {
					t.Fatalf("layer %d is %+v, want %+v", k, a, profile[k])
				}
				if width := b.Hi - b.Lo; !b.SoftReset && !(width > 0 && b.Gamma > 0) {
					t.Errorf("%s: γ %v, potentials in [%v, %v]", a.Layer, b.Gamma, b.Lo, b.Hi)
				}
				if p := 2 * max(slices.Max(b.Positive), slices.Max(b.Negative)); b.PaperGamma != p || b.PaperGamma < b.Gamma {
					t.Errorf("%s: the paper's γ is %v, want %v, at least %v", a.Layer, b.PaperGamma, p, b.Gamma)
				}
				if ratio, want := b.PaperGamma/b.Threshold, 0.0; !b.SoftReset {
					// Eq. 15
					want = float64(a.Neurons*m.Steps*(m.Steps+1)) / b.Decay * (ratio + ratio*ratio)
					near(t, a.Layer+": Γ", b.PaperConstant, want, 1e-12)
					for n, v := range a.CurrentBound {
						near(t, a.Layer+": Theorem 1", a.ByTheorem1[n], math.Pow(v/b.Threshold, 2)+want, 1e-12)
					}
				}
				for n := range clean.N {
					near(t, a.Layer+": out", a.Out[n], profile[k].D[n], 0)
					near(t, a.Layer+": currents", a.Currents[n], currents[k].D[n], 0)
					var in float64
					for _, p := range b.Paths {
						if p.From != lipschitz.Image {
							in += out[p.From][n] * out[p.From][n]
						}
					}
					if b.Paths[0].From != lipschitz.Image {
						near(t, a.Layer+": in", a.In[n], math.Sqrt(in), 1e-12)
					}
					if a.Currents[n] > a.CurrentBound[n]*(1+1e-5) {
						t.Errorf("%s, image %d: currents are %v apart, more than %v", a.Layer, n, a.Currents[n], a.CurrentBound[n])
					}
					if a.CurrentBound[n] > 0 {
						tight = max(tight, a.Currents[n]/a.CurrentBound[n])
					}
					d2 := a.Out[n] * a.Out[n] * (1 - 1e-12)
					for by, bound := range map[string]float64{
						"margin": float64(a.ByMargin[n]), "currents": float64(a.ByCurrents[n]), "Theorem 1": a.ByTheorem1[n], "MaxOut": float64(a.MaxOut), "Bound": float64(a.Bound(n)),
					} {
						if d2 > bound {
							t.Errorf("%s, image %d: D₂² = %v > %v by %s", a.Layer, n, d2, bound, by)
						}
					}
					if n == 1 && (a.Out[n] != 0 || a.Bound(n) != 0 && !b.SoftReset) {
						t.Errorf("%s: D₂ = %v ≤ %v without a perturbation", a.Layer, a.Out[n], a.Bound(n))
					}
					if b.SoftReset && a.Bound(n) != a.Neurons*a.Steps {
						t.Errorf("%s: a bound of %v for soft reset", a.Layer, a.Bound(n))
					}
				}
			}
			if tight < 0.1 {
				t.Errorf("the currents are never more than %v of their bound", tight)
			}
		})
	}
}

// The distance of the image counts at every step.
func TestMeasureAmplificationOfImage(t *testing.T) {
	m := networks(t)["A conv6 | fc3"]
	clean := images(1, m.Channels, m.Height, m.Width, 3)
	perturbed := tensor.NewNCHW(1, clean.C, clean.H, clean.W)
	copy(perturbed.Data, clean.Data)
	d := perturbed.Data[5]
	perturbed.Data[5] = 1 - d
	d -= 1 - d
	got, err := lipschitz.MeasureAmplification(m, bound(t, m), clean, perturbed, nil)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "in", got[0].In[0], math.Abs(float64(d))*math.Sqrt(3), 1e-6)
}

// The currents of neurons that read spikes are these spikes: those of a Poisson encoder, of
// neurons, or of maximum pooling.
func TestCurrentsThatAreSpikes(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 4, Width: 4, Steps: 5, Encoder: snn.Poisson{}}, snn.NewSequential(
		snn.NewIF(), snn.NewIF(), snn.MaxPool{K: 2}, snn.NewIF(), snn.Flatten{}, snn.NewLinear(8, 3, false)))
	if err != nil {
		t.Fatal(err)
	}
	x, y := images(3, 2, 4, 4, 1), images(3, 2, 4, 4, 2)
	currents, err := lipschitz.CurrentDistances(m, 2, x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := lipschitz.MeasureAmplification(m, bound(t, m), x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range got { // an IF neuron of threshold 1 passes spikes on
		if !slices.Equal(currents[i].D, a.Out) || !slices.Equal(a.Currents, a.Out) || slices.Min(a.Out) == 0 {
			t.Errorf("layer %s: distances %v and %v of the currents, %v of the spikes", a.Layer, currents[i].D, a.Currents, a.Out)
		}
		if i < 2 && !slices.Equal(a.In, a.Out) {
			t.Errorf("layer %s: distances %v of the input, %v of the spikes", a.Layer, a.In, a.Out)
		}
	}
}

func TestMeasureAmplificationErrors(t *testing.T) {
	m := networks(t)["A conv6 | fc3"]
	bounds := bound(t, m)
	x := images(2, m.Channels, m.Height, m.Width, 3)
	shorter, err := lipschitz.Connections(m)
	if err != nil {
		t.Fatal(err)
	}
	one, err := shorter[0].Bound(t.Context(), 1, quick())
	if err != nil {
		t.Fatal(err)
	}
	for says, call := range map[string]func() error{
		"MeasureAmplification: 2 clean and 1 perturbed images": func() error { return failure(lipschitz.MeasureAmplification(m, bounds, x, x.Slice(0, 1), nil)) },
		"MeasureAmplification: no bounds of features.3":        func() error { return failure(lipschitz.MeasureAmplification(m, bounds[1:], x, x, nil)) },
		"MeasureAmplification: the bounds of features.3 are those of 1 steps, and the model has 3": func() error {
			return failure(lipschitz.MeasureAmplification(m, []*lipschitz.ConnectionBounds{one, bounds[1]}, x, x, nil))
		},
		"MeasureAmplification: no bounds of features.": func() error { return failure(lipschitz.MeasureAmplification(m, nil, x, x, nil)) },
	} {
		wantError(t, call(), says)
	}
	c := bounds[0].Connection
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := failure(c.Bound(ctx, 3, quick())); err != context.Canceled {
		t.Errorf("%v after cancel", err)
	}
	wantError(t, failure(c.Bound(t.Context(), 0, quick())), "0 steps")
	o := quick()
	o.Conv.Lanczos.MaxIterations = 1
	wantError(t, failure(c.Bound(t.Context(), 3, o)), "after 1 iterations", "(from image to features.3)")
	bias := c.Bias[1]
	c.Bias[1] = math.NaN()
	wantError(t, failure(c.Bound(t.Context(), 3, quick())), "Connection.Bound: the bias of row 1 is NaN; expected a finite number (of features.3)")
	c.Bias[1] = bias
	c.Paths[0].Map.Weight[0] = float32(math.NaN())
	wantError(t, failure(c.Bound(t.Context(), 3, o)), "NaN", "(from image to features.3)")
}
