package lipschitz_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// networks returns networks with every kind of layer. Each batch norm has its own statistics.
func networks(t testing.TB) map[string]*snn.Model {
	models := map[string]*snn.Model{}
	for name, change := range map[string]func(*zoo.Config){
		"conv6 A conv5 A conv4 | fc7 fc3": func(c *zoo.Config) {},
		"conv6 conv5 A A | fc7 fc3":       func(c *zoo.Config) { c.BatchNorm, c.Decay, c.Threshold = false, 0.5, 0.25 },
		"conv6 M conv5 | fc3":             func(c *zoo.Config) { c.Poisson = true },
		"A conv6 | fc3":                   func(c *zoo.Config) { c.Mean, c.Std = nil, nil },
		"M conv6 | fc3":                   func(c *zoo.Config) { c.SoftReset = true },
		"WRN widths 3,4,6,8, 2 blocks a group, strides 1,2,2": func(c *zoo.Config) { c.Dropout = 0.2 },
		"WRN widths 3,3,4,5, 1 blocks a group, strides 1,2,1": func(c *zoo.Config) { c.BatchNorm = false },
	} {
		cfg := zoo.Default(name)
		cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 2, 10, 10, 3, 3
		cfg.Mean, cfg.Std = []float32{0.4, 0.6}, []float32{0.25, 0.5}
		change(&cfg)
		m, err := zoo.New(cfg, rng.New(1))
		if err != nil {
			t.Fatal(err)
		}
		r := rng.New(7).Rand()
		for _, p := range m.State() {
			if len(p.Shape) == 1 && p.Name != "mean" && p.Name != "std" {
				v := p.Export()
				for i := range v {
					v[i] = float32(0.3 + r.Float64()) // shifts and scales of batch norm, biases, convex weights
				}
				p.Import(v)
			}
		}
		models[name] = m
	}
	return models
}

// pooled returns the maxima of windows of k × k of x, which has shape s.
func pooled(x []float32, s tensor.Shape, k int) (y []float32) {
	for c := range s.C {
		for i := range s.H / k {
			for j := range s.W / k {
				most := x[(c*s.H+i*k)*s.W+j*k]
				for a := range k * k {
					most = max(most, x[(c*s.H+i*k+a/k)*s.W+j*k+a%k])
				}
				y = append(y, most)
			}
		}
	}
	return y
}

// taps passes the encoded image and the currents of every layer to show.
type taps struct {
	snn.BPTT
	show func(layer string, v *autograd.Value)
}

func (g taps) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	y := g.BPTT.Encode(p, e, x)
	g.show(lipschitz.Image, y)
	return y
}

func (g taps) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	g.show(n.Name(), current)
	return g.BPTT.Fire(p, n, current)
}

// Every input current is Bias + Σ Map·s of the input spikes, apart from the mean of the
// image. It lies in the range of the connection.
func TestConnections(t *testing.T) {
	racetest.Costly(t)
	for name, m := range networks(t) {
		t.Run(name, func(t *testing.T) {
			connections, err := lipschitz.Connections(m)
			if err != nil {
				t.Fatal(err)
			}
			// The difference of the currents of two images is linear in the difference of the images.
			x := images(2, m.Channels, m.Height, m.Width, 3)
			currents := map[string]*tensor.Dense{}
			clone := func(d *tensor.Dense) *tensor.Dense {
				return &tensor.Dense{Shape: d.Shape, Data: append([]float32(nil), d.Data...)}
			}
			var order []string
			spikes := map[string]*tensor.Dense{}
			pass := snn.Pass{
				Gradient: taps{show: func(layer string, v *autograd.Value) {
					if layer != lipschitz.Image {
						currents[layer] = clone(v.Dense())
						order = append(order, layer)
					} else if s := v.Spikes(); s != nil {
						spikes[layer] = s.Dense()
					} else {
						spikes[layer] = clone(v.Dense())
					}
				}},
				OnSpikes: func(layer string, s *tensor.Spikes) { spikes[layer] = s.Dense() },
			}
			logits, err := m.Logits(pass, x)
			if err != nil {
				t.Fatal(err)
			}
			if len(connections) != len(order)+1 {
				t.Fatalf("%d connections, want those of %v and the logits", len(connections), order)
			}
			moved := false
			for k, c := range connections {
				last := k == len(order)
				if !last && (c.Layer != order[k] || c.Neurons.Name() != c.Layer) || last && (c.Layer != lipschitz.Logits || c.Neurons != nil) {
					t.Fatalf("connection %d is to %s, want %v", k, c.Layer, order)
				}
				for step := range m.Steps {
					// Σ Map·s of each image
					sums := [2][]float64{}
					for n := range 2 {
						for _, p := range c.Paths {
							s := spikes[p.From]
							v := frame(s, n, min(step, s.Steps-1))
							if p.Map.Height < s.H && p.Map.Cin*p.Map.Height*p.Map.Width < len(v) { // behind maximum pooling
								v = pooled(v, s.Shape, s.H/p.Map.Height)
							}
							if p.Map.Height < s.H { // average pooling ignores the remainder of the image
								v = crop(v, s, p.Map.Height, p.Map.Width)
							}
							for i, y := range apply(p.Map, v) {
								if len(sums[n]) <= i {
									sums[n] = append(sums[n], 0)
								}
								sums[n][i] += float64(y)
							}
						}
					}
					if last {
						break
					}
					have := currents[c.Layer]
					pixels := have.Pixels()
					for n := range 2 {
						got := frame(have, n, min(step, have.Steps-1))
						for i := range got {
							d := float64(got[i]) - sums[n][i]
							if fromImage := c.Paths[0].From == lipschitz.Image; !fromImage {
								if math.Abs(d-c.Bias[i/pixels]) > 1e-4 {
									t.Fatalf("%s: current %d is %v, want %v + %v", c.Layer, i, got[i], sums[n][i], c.Bias[i/pixels])
								}
							} else if other := float64(frame(have, 1-n, min(step, have.Steps-1))[i]) - sums[1-n][i]; math.Abs(d-other) > 1e-4 {
								t.Fatalf("%s: current %d: %v and %v remain", c.Layer, i, d, other)
							}
							over := float64(got[i]) - c.Bias[i/pixels]
							if over > c.Positive[i/pixels]+1e-4 || -over > c.Negative[i/pixels]+1e-4 {
								t.Fatalf("%s: current %d is %v from its bias, beyond %v and %v", c.Layer, i, over, c.Positive[i/pixels], c.Negative[i/pixels])
							}
							moved = moved || math.Abs(over) > 0.1
						}
					}
				}
			}
			if !moved {
				t.Error("no current to check")
			}
			last := connections[len(connections)-1]
			var out [2][]float64
			for n := range 2 {
				out[n] = append([]float64(nil), last.Bias...)
				for _, p := range last.Paths {
					s := spikes[p.From]
					for step := range m.Steps {
						for i, y := range apply(p.Map, crop(frame(s, n, step), s, p.Map.Height, p.Map.Width)) {
							out[n][i] += float64(y) / float64(m.Steps)
						}
					}
				}
				wantClose(t, "logits", logits[n*m.Classes():][:m.Classes()], out[n])
			}
		})
	}
}

// frame returns the values of image n at a step, [C][H][W].
func frame(d *tensor.Dense, n, step int) (v []float32) {
	for c := range d.C {
		for i := range d.Pixels() {
			v = append(v, d.At(n, step, c, i/d.W, i%d.W))
		}
	}
	return v
}

// crop returns the upper left part of the frame v of s.
func crop(v []float32, s *tensor.Dense, h, w int) (y []float32) {
	if len(v) != s.C*s.H*s.W {
		return v
	}
	for c := range s.C {
		for i := range h {
			y = append(y, v[(c*s.H+i)*s.W:][:w]...)
		}
	}
	return y
}

func TestConnectionsErrors(t *testing.T) {
	for says, body := range map[string]snn.Layer{
		"after image: 1.weight: expected neurons between it and the linear layer before it": snn.NewSequential(
			snn.NewConv2D(1, 2, 3, 1, 1, false), snn.NewConv2D(2, 2, 4, 1, 0, false)),
		"after 1: maximum pooling: expected spikes, or the image, before it": snn.NewSequential(
			snn.NewConv2D(1, 2, 3, 1, 1, false), snn.NewIF(), snn.NewConv2D(2, 2, 3, 1, 1, false), snn.MaxPool{K: 4}),
		"after 1: a layer of type *snn.BatchNorm of features that Flatten made of 2×4×4: expected a linear layer between": snn.NewSequential(
			snn.NewConv2D(1, 2, 3, 1, 1, false), snn.NewIF(), snn.Flatten{}, snn.NewBatchNorm(32), snn.NewIF(), snn.NewLinear(32, 2, false)),
		"after 1: a layer of type *snn.Conv2D of features that Flatten made of 1×4×4: expected a linear layer between": snn.NewSequential(
			snn.Flatten{}, snn.NewIF(), snn.NewConv2D(16, 2, 1, 1, 0, false)),
		"after 0: a layer of type snn.AvgPool of features that Flatten made of 1×4×4: expected a linear layer between": snn.NewSequential(
			snn.NewIF(), snn.Flatten{}, snn.AvgPool{}, snn.NewLinear(16, 2, false)),
		"after image: a layer of type lipschitz_test.strange: expected one of package snn": strange{snn.NewConv2D(1, 2, 4, 1, 0, false)},
	} {
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 1}, body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = lipschitz.Connections(m)
		wantError(t, err, fmt.Sprint("lipschitz: Connections: ", says))
	}
}

// The values of FrequencyEncoding go beyond those of the image, which the bounds of the currents
// assume.
func TestConnectionsOfFrequencies(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4, Encoder: snn.FrequencyEncoding{}}, snn.NewSequential(
		snn.NewIF(), snn.Flatten{}, snn.NewLinear(64, 2, false)))
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.NewNCHW(1, 1, 8, 8)
	for i := range x.Data {
		x.Data[i] = float32(i / 4 % 2) // an edge
	}
	var most float32
	if _, err := m.Logits(snn.Pass{OnNeurons: func(_ *snn.Pass, _ snn.Neuron, currents, _ *autograd.Value) {
		most = slices.Max(currents.Dense().Data)
	}}, x); err != nil || most <= 1.01 {
		t.Fatalf("currents of at most %v (%v): want more than 1", most, err)
	}
	_, err = lipschitz.Connections(m)
	wantError(t, err, "lipschitz: Connections: encoder snn.FrequencyEncoding: its values may lie outside of [0, 1]; expected another one")
}

type strange struct{ *snn.Conv2D }

// The normalization is that of the parameters, which Load may have set, and not that of the
// configuration.
func TestConnectionsOfALoadedNormalization(t *testing.T) {
	cfg := zoo.Default("conv4 | fc3")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = 2, 4, 4, 3
	build := func(mean, std []float32) *snn.Model {
		cfg.Mean, cfg.Std = mean, std
		m, err := zoo.New(cfg, rng.New(1))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	saved, loaded := build([]float32{0.1, 0.9}, []float32{0.25, 0.5}), build([]float32{0, 0}, []float32{1, 1})
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := errors.Join(saved.Save(path), loaded.Load(path)); err != nil {
		t.Fatal(err)
	}
	want, err := lipschitz.Connections(saved)
	got, err2 := lipschitz.Connections(loaded)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		w, g := want[i], got[i]
		if !slices.Equal(w.Positive, g.Positive) || !slices.Equal(w.Negative, g.Negative) || !slices.Equal(w.Paths[0].Map.Weight, g.Paths[0].Map.Weight) {
			t.Errorf("%s: %v and %v, want %v and %v", w.Layer, g.Positive, g.Negative, w.Positive, w.Negative)
		}
	}
}
