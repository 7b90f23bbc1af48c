package lipschitz_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// wire returns a network with one pixel and two layers of IF neurons with the weight 1, for
// T = 4.
func wire(t *testing.T) (*snn.Model, *snn.Conv2D) {
	conv, fc, out := snn.NewConv2D(1, 1, 1, 1, 0, false), snn.NewLinear(1, 1, false), snn.NewLinear(1, 1, false)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 4},
		snn.NewSequential(conv, snn.NewIF(), fc, snn.NewIF(), out))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Import([]float32{1})
	}
	return m, conv
}

func images(n, c, h, w int, seed uint64) tensor.NCHW {
	x := tensor.NewNCHW(n, c, h, w)
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

// A pixel of 1 causes a spike at each of 4 steps, ½ at every second step, 0.3 at the last step
// (0.3, 0.6, 0.9, 1.2), and 0 at none.
func TestSpikeDistancesByHand(t *testing.T) {
	m, _ := wire(t)
	clean := tensor.NCHW{N: 4, C: 1, H: 1, W: 1, Data: []float32{1, 1, 0.5, 0.5}}
	moved := tensor.NCHW{N: 4, C: 1, H: 1, W: 1, Data: []float32{0.5, 0, 0.3, 0.5}}
	got, err := lipschitz.SpikeDistances(m, 2, clean, moved, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Layer != "1" || got[1].Layer != "3" {
		t.Fatalf("layers %+v, want 1 and 3", got)
	}
	for _, l := range got {
		if want := []float64{math.Sqrt2, 2, 1, 0}; !slices.Equal(l.D, want) {
			t.Errorf("layer %s: D = %v, want %v", l.Layer, l.D, want)
		}
		if want := (tensor.Shape{N: 4, Steps: 4, C: 1, H: 1, W: 1}); l.Shape != want {
			t.Errorf("layer %s: shape %v, want %v", l.Layer, l.Shape, want)
		}
	}
}

// A wire hands on frames of zeros and ones as they are, so that distances are those of the
// frames. Both batches must be images, or both frames.
func TestSpikeDistancesOfFrames(t *testing.T) {
	m, _ := wire(t)
	clean := tensor.NCHW{N: 2, Steps: 4, C: 1, H: 1, W: 1, Data: []float32{1, 0, 1, 0, 1, 1, 1, 1}}
	moved := tensor.NCHW{N: 2, Steps: 4, C: 1, H: 1, W: 1, Data: []float32{0, 1, 1, 0, 1, 0, 0, 0}}
	got, err := lipschitz.SpikeDistances(m, 1, clean, moved, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range got {
		if want := []float64{2, 3}; !slices.Equal(l.D, want) {
			t.Errorf("layer %s: D = %v, want %v", l.Layer, l.D, want)
		}
	}
	_, err = lipschitz.SpikeDistances(m, 1, clean, tensor.NewNCHW(2, 1, 1, 1), nil)
	if want := "lipschitz: SpikeDistances: clean images 2×4×1×1×1 and perturbed images 2×1×1×1; expected the same shape"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// The currents of the first layer are the pixels. Those of the second layer are spikes.
func TestCurrentDistancesByHand(t *testing.T) {
	m, _ := wire(t)
	clean := tensor.NCHW{N: 4, C: 1, H: 1, W: 1, Data: []float32{1, 1, 0.5, 0}}
	moved := tensor.NCHW{N: 4, C: 1, H: 1, W: 1, Data: []float32{0.5, 0, 0.25, 0.5}}
	got, err := lipschitz.CurrentDistances(m, 2, clean, moved, nil)
	if err != nil {
		t.Fatal(err)
	}
	// √(4·½²), √(4·1²), √(4·¼²), √(4·½²); then the roots of the differences 2, 4, 1, 2.
	want := [][]float64{{1, 2, 0.5, 1}, {math.Sqrt2, 2, 1, math.Sqrt2}}
	for i, l := range got {
		if !slices.Equal(l.D, want[i]) || l.Layer != []string{"1", "3"}[i] || !slices.Equal(l.Spikes, []int{4, 4, 2, 0}) {
			t.Errorf("%+v, want %v", l, want[i])
		}
	}
	// Divided by √(N·T) = 2, and by the root of the number of clean spikes.
	if d := got[0].PerNeuron(); !slices.Equal(d, []float64{0.5, 1, 0.25, 0.5}) {
		t.Errorf("PerNeuron %v", d)
	}
	d := got[0].PerSpike()
	near(t, "PerSpike", d[2], math.Sqrt(0.125), 1e-15)
	if d[0] != 0.5 || d[1] != 1 || !math.IsInf(d[3], 1) {
		t.Errorf("PerSpike %v", d)
	}
}

// The distances of the currents come with the layers, shapes and numbers of spikes of the
// distances of the spikes. A norm of the weights bounds them.
func TestCurrentDistancesOfLayers(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 4, Width: 4, Steps: 5},
		snn.NewSequential(snn.NewConv2D(2, 20, 3, 1, 1, true), snn.NewBatchNorm(20), snn.NewLIF(0.9), snn.AvgPool{K: 4}, snn.NewLinear(20, 33, true), snn.NewIF(), snn.NewLinear(33, 3, true)))
	if err != nil {
		t.Fatal(err)
	}
	m.Init(rng.New(1))
	x, y := images(3, 2, 4, 4, 1), images(3, 2, 4, 4, 2)
	currents, err := lipschitz.CurrentDistances(m, 1, x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	spikes, err := lipschitz.SpikeDistances(m, 1, x, y, nil)
	if err != nil {
		t.Fatal(err)
	}
	var linear *autograd.Param
	for _, p := range m.Params() {
		if p.Name == "4.weight" {
			linear = p
		}
	}
	for i, c := range currents {
		if s := spikes[i]; c.Layer != s.Layer || c.Shape != s.Shape || !slices.Equal(c.Spikes, s.Spikes) || slices.Min(c.D) <= 0 {
			t.Errorf("currents %+v, spikes %+v", c, s)
		}
	}
	// ‖W·Δ‖₁ ≤ ‖W‖₁·‖Δ‖₁, and pooling spreads a spike over 16 pixels.
	w, rows, cols := lipschitz.Matrix(linear)
	var norm1 float64
	for j := range cols {
		var sum float64
		for i := range rows {
			sum += math.Abs(float64(w[i*cols+j]))
		}
		norm1 = max(norm1, sum)
	}
	for n, d := range currents[1].D {
		if d > norm1*spikes[0].D[n]/16*(1+1e-5) {
			t.Errorf("image %d: the currents move by %v, of spikes that move by %v", n, d, spikes[0].D[n])
		}
	}
}

// Equal images have the distance 0 under Poisson encoding too. The result of an image does not
// depend on the other images.
func TestSpikeDistancesOfPoisson(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 5, Width: 5, Steps: 6, Encoder: snn.Poisson{}},
		snn.NewSequential(snn.NewConv2D(2, 20, 3, 1, 1, true), snn.NewLIF(0.9), snn.AvgPool{K: 5}, snn.NewLinear(20, 30, true), snn.NewIF(), snn.NewLinear(30, 3, true)))
	if err != nil {
		t.Fatal(err)
	}
	m.Init(rng.New(1))
	x, y := images(5, 2, 5, 5, 1), images(5, 2, 5, 5, 2)
	keys := make([]rng.Key, 5)
	for i := range keys {
		keys[i] = rng.New(7).Derive("image", uint64(i))
	}
	profile := func(a, b tensor.NCHW, keys []rng.Key) []lipschitz.LayerDistance {
		p, err := lipschitz.SpikeDistances(m, 1, a, b, keys)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, l := range profile(x, x, keys) {
		if slices.Max(l.D) != 0 {
			t.Errorf("layer %s: equal images have distances %v", l.Layer, l.D)
		}
	}
	all := profile(x, y, keys)
	if slices.Min(all[0].D) == 0 {
		t.Errorf("layer %s: unrelated images have distances %v", all[0].Layer, all[0].D)
	}
	for n := range x.N {
		for i, l := range profile(x.Slice(n, n+1), y.Slice(n, n+1), keys[n:n+1]) {
			if l.D[0] != all[i].D[n] {
				t.Errorf("layer %s, image %d: %v alone, %v in the batch", l.Layer, n, l.D[0], all[i].D[n])
			}
		}
	}
}

func TestSpikeDistancesErrors(t *testing.T) {
	m, conv := wire(t)
	one, two := images(1, 1, 1, 1, 1), images(2, 1, 1, 1, 1)
	_, err := lipschitz.SpikeDistances(m, 2, one, two, nil)
	wantError(t, err, "1 clean and 2 perturbed")
	_, err = lipschitz.SpikeDistances(m, 1, one, one, make([]rng.Key, 2))
	wantError(t, err, "2 keys for 1 images")
	_, err = lipschitz.SpikeDistances(m, 0.5, one, one, nil)
	wantError(t, err, "SpikeDistances: p is 0.5")
	_, err = lipschitz.CurrentDistances(m, 0.5, one, one, nil)
	wantError(t, err, "CurrentDistances: p is 0.5")
	_, err = lipschitz.CurrentDistances(m, 2, one, two, nil)
	wantError(t, err, "CurrentDistances: 1 clean and 2 perturbed")
	_, err = lipschitz.SpikeDistances(m, 2, images(1, 1, 2, 1, 1), one, nil)
	wantError(t, err, "clean images", "1×1×2×1")
	bad := one.Clone()
	bad.Data[0] = float32(math.NaN())
	_, err = lipschitz.SpikeDistances(m, 2, one, bad, nil)
	wantError(t, err, "perturbed images", "not a number")
	conv.Weight.Import([]float32{float32(math.NaN())})
	_, err = lipschitz.SpikeDistances(m, 2, one, one, nil)
	wantError(t, err, "0.weight holds NaN")
}
