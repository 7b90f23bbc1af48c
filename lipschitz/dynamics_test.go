package lipschitz_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/tensor"
)

// fire runs neurons step by step on a train of T·cols bits. It returns their spikes as T·rows
// bits, and their currents.
func fire(w, bias []float32, rows, cols int, r lipschitz.Dynamics, train uint) (spikes uint, current *tensor.Dense) {
	current = tensor.NewDense(tensor.Shape{N: 1, Steps: r.Steps, C: rows, H: 1, W: 1})
	for i := range rows {
		m := 0.0
		for t := range r.Steps {
			sum := 0.0
			if bias != nil {
				sum = float64(bias[i])
			}
			for j := range cols {
				if train>>(t*cols+j)&1 == 1 {
					sum += float64(w[i*cols+j])
				}
			}
			current.Set(0, t, i, 0, 0, float32(sum))
			if m = r.Decay*m + sum; m >= r.Threshold {
				spikes |= 1 << (t*rows + i)
				m = 0
			}
		}
	}
	return spikes, current
}

func ones(x uint) (n int) {
	for ; x != 0; x &= x - 1 {
		n++
	}
	return n
}

// checkBounds checks every bound for every pair of input trains. It returns the largest
// share of each bound that a pair reaches.
func checkBounds(t rapid.TB, w, bias []float32, rows, cols int, r lipschitz.Dynamics) (gain, differences, margin float64) {
	l, err := lipschitz.Lambda(context.Background(), w, rows, cols, lipschitz.DefaultLambdaSearch())
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.Gain(l.Upper)
	if err != nil {
		t.Fatal(err)
	}
	each, err := r.MaxDifferences(w, bias, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, n := range each {
		most += n
	}
	trains := uint(1) << (cols * r.Steps)
	spikes, currents := make([]uint, trains), make([]*tensor.Dense, trains)
	for x := range trains {
		spikes[x], currents[x] = fire(w, bias, rows, cols, r, x)
		if n := ones(spikes[x]); bias == nil && float64(n) > k*float64(ones(x)) {
			t.Fatalf("%d spikes from %d; the gain is %v", n, ones(x), k)
		}
	}
	for x := range trains {
		margins := map[int]int{} // by D₂² of the inputs
		for y := range trains {
			in, out := ones(x^y), ones(spikes[x]^spikes[y])
			if bound := k * float64(ones(x)+ones(y)); bias == nil && float64(out) > bound {
				t.Fatalf("trains %b and %b: D₂² = %d > %v by the gain", x, y, out, bound)
			} else if bias == nil && bound > 0 {
				gain = max(gain, float64(out)/bound)
			}
			for i, n := range each {
				differ := 0
				for step := range r.Steps {
					differ += int((spikes[x] ^ spikes[y]) >> (step*rows + i) & 1)
				}
				if differ > n {
					t.Fatalf("trains %b and %b: neuron %d differs %d times, more than %d", x, y, i, differ, n)
				}
			}
			if most > 0 {
				differences = max(differences, float64(out)/float64(most))
			}
			bound, ok := margins[in]
			if !ok {
				b, err := r.MarginBound(currents[x], []float64{l.Upper * l.Upper * float64(in)})
				if err != nil {
					t.Fatal(err)
				}
				bound, margins[in] = b[0], b[0]
			}
			if out > bound {
				t.Fatalf("trains %b and %b: D₂² = %d > %d by margins, from %d", x, y, out, bound, in)
			}
			// The exact energy of this pair.
			if (x^y)%5 == 1 {
				var e float64
				for i, v := range currents[x].Data {
					e += math.Pow(float64(v-currents[y].Data[i]), 2)
				}
				b, err := r.MarginBound(currents[x], []float64{e})
				if err != nil || out > b[0] {
					t.Fatalf("trains %b and %b: D₂² = %d > %v by margins, from %v (%v)", x, y, out, b, e, err)
				}
			}
			if bound > 0 {
				margin = max(margin, float64(out)/float64(bound))
			}
		}
	}
	return gain, differences, margin
}

// TestBoundsOfAllPairs enumerates all pairs of input trains of small layers. The sums of the
// weights do not round, so a potential can equal the threshold exactly.
func TestBoundsOfAllPairs(t *testing.T) {
	var gain, differences, margin float64
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom([][3]int{{2, 2, 3}, {3, 1, 5}, {1, 3, 2}, {4, 2, 2}}).Draw(t, "rows, cols, T")
		rows, cols := shape[0], shape[1]
		w := make([]float32, rows*cols)
		for i := range w {
			w[i] = float32(rapid.IntRange(-8, 12).Draw(t, "w")) / 8
		}
		var bias []float32
		if rapid.Bool().Draw(t, "with bias") {
			for range rows {
				bias = append(bias, float32(rapid.IntRange(-8, 16).Draw(t, "bias"))/8)
			}
		}
		g, d, m := checkBounds(t, w, bias, rows, cols, lipschitz.Dynamics{
			Decay:     rapid.SampledFrom([]float64{1, 0.5, 0.25}).Draw(t, "decay"),
			Threshold: rapid.SampledFrom([]float64{0.5, 1, 1.5}).Draw(t, "threshold"), Steps: shape[2],
		})
		gain, differences, margin = max(gain, g), max(differences, d), max(margin, m)
	})
	t.Logf("the largest share of a bound that was used: gain %.3f, differences %.3f, margin %.3f", gain, differences, margin)
}

func TestMaxDifferencesByHand(t *testing.T) {
	r := lipschitz.Dynamics{Decay: 0.5, Threshold: 1, Steps: 7}
	// Neuron 0 needs one step. Neuron 1 stays below 1: ½ + ¼ + …. Neuron 2 needs three steps,
	// 0.6 + 0.3 + 0.15, so it fires at most twice in 7 steps. Neuron 3 never fires.
	got, err := r.MaxDifferences([]float32{1, 0, 0.25, 0.25, 0.5, 0.1, -3, 0}, nil, 4, 2)
	if err != nil || !slices.Equal(got, []int{7, 0, 4, 0}) {
		t.Errorf("%v, %v", got, err)
	}
}

// The potentials of the first neuron are 0.75, 1.5 (it fires) and 0.75. The energy 0.25²
// changes it in the first step, for three differences. The second neuron is 11, 21 and 31
// below its threshold; 11² changes it in the first step. The energy 121.03 buys the first
// neuron and 0.99974 of the second.
func TestMarginBoundByHand(t *testing.T) {
	r := lipschitz.Dynamics{Decay: 1, Threshold: 1, Steps: 3}
	x := tensor.NewDense(tensor.Shape{N: 6, Steps: 1, C: 2, H: 1, W: 1})
	for n := range 6 {
		x.Set(n, 0, 0, 0, 0, 0.75)
		x.Set(n, 0, 1, 0, 0, -10)
	}
	got, err := r.MarginBound(x, []float64{0, 0.0624, 0.0626, 50, 121.03, 200})
	if err != nil || !slices.Equal(got, []int{0, 0, 3, 3, 5, 6}) {
		t.Errorf("%v, %v", got, err)
	}
	// A neuron that fires in every step forgets the past. Its potential is 0.5 above the
	// threshold, so an energy below 0.5² changes nothing.
	y := tensor.NewDense(tensor.Shape{N: 2, Steps: 1, C: 1, H: 1, W: 1})
	y.Set(0, 0, 0, 0, 0, 1.5)
	y.Set(1, 0, 0, 0, 0, 1.5)
	got, err = r.MarginBound(y, []float64{0.249, 0.251})
	if err != nil || !slices.Equal(got, []int{0, 3}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestResponseErrors(t *testing.T) {
	ok := lipschitz.Dynamics{Decay: 1, Threshold: 1, Steps: 2}
	current := tensor.NewDense(tensor.Shape{N: 1, Steps: 1, C: 1, H: 1, W: 1})
	for _, c := range []struct {
		r    lipschitz.Dynamics
		says string
	}{
		{lipschitz.Dynamics{Threshold: 1, Steps: 1}, "decay is 0"},
		{lipschitz.Dynamics{Decay: 1, Threshold: math.NaN(), Steps: 1}, "threshold is NaN"},
		{lipschitz.Dynamics{Decay: 1, Threshold: 1}, "0 steps"},
	} {
		_, err := c.r.Gain(1)
		wantError(t, err, "Gain", c.says)
		_, err = c.r.MaxDifferences([]float32{1}, nil, 1, 1)
		wantError(t, err, "MaxDifferences", c.says)
		_, err = c.r.MarginBound(current, []float64{1})
		wantError(t, err, "MarginBound", c.says)
	}
	for _, lambda := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := ok.Gain(lambda)
		wantError(t, err, fmt.Sprintf("lambda is %v", lambda))
	}
	_, err := ok.MaxDifferences([]float32{float32(math.NaN())}, nil, 1, 1)
	wantError(t, err, "row 0, column 0", "NaN")
	_, err = ok.MarginBound(current, []float64{math.NaN()})
	wantError(t, err, "image 0", "NaN")
	current.Set(0, 0, 0, 0, 0, float32(math.Inf(1)))
	_, err = ok.MarginBound(current, []float64{1})
	wantError(t, err, "+Inf")
}
