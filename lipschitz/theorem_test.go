package lipschitz_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/org/snnrat/lipschitz"
)

// enumerateGamma returns γ of Eq. 15 from its definition: all s of {0,1}ⁿ that are not 0.
func enumerateGamma(w []float32, rows, cols int) float64 {
	var plus, minus float64
	for s := uint(1); s < 1<<cols; s++ {
		for i := range rows {
			var y float64
			for j := range cols {
				if s>>j&1 == 1 {
					y += float64(w[i*cols+j])
				}
			}
			plus, minus = max(plus, math.Abs(y)), max(minus, math.Abs(-y))
		}
	}
	return plus + minus
}

func TestPaperGammaByEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, rows, cols := drawWeights(t, 8)
		got := must(lipschitz.PaperGamma(w, rows, cols))
		near(t, "γ of Eq. 15", got, enumerateGamma(w, rows, cols), 1e-12)
		if gamma := must(lipschitz.Gamma(w, rows, cols)); got < gamma {
			t.Errorf("γ of Eq. 15 is %v, below the range of the currents %v", got, gamma)
		}
		// Proposition 2
		inf, norm := normInf(w, rows, cols), svdNorm(w, rows, cols)
		const slack = 1 + 1e-12
		if got > 2*inf*slack || inf > math.Sqrt(float64(cols))*norm*slack {
			t.Errorf("γ = %v, ‖W‖∞ = %v, ‖W‖₂ = %v of %d columns", got, inf, norm, cols)
		}
	})
	// Proposition 2 is an equality here: 6 = 2·‖W‖∞.
	diagonal := []float32{3, 0, 0, -1}
	if paper, code := must(lipschitz.PaperGamma(diagonal, 2, 2)), must(lipschitz.Gamma(diagonal, 2, 2)); paper != 6 || code != 4 {
		t.Errorf("γ of diag(3, −1) is %v in Eq. 15 and %v in the code, want 6 and 4", paper, code)
	}
}

// theorem1 checks the inequality of Theorem 1 for all pairs of input trains. It returns
// whether the inequality holds for all of them, Γ, and whether any train causes a spike.
func theorem1(t testing.TB, w, bias []float32, rows, cols int, d lipschitz.Dynamics) (holds bool, constant float64, fires bool) {
	t.Helper()
	lambda, gamma := enumerate(w, rows, cols), enumerateGamma(w, rows, cols)
	constant = must(d.Theorem1(lambda, gamma, 0, rows))
	bits := cols * d.Steps
	right := make([]float64, bits+1) // by D₂² of the inputs
	for i := range right {
		right[i] = must(d.Theorem1(lambda, gamma, math.Sqrt(float64(i)), rows))
		want := float64(i)*lambda*lambda/(d.Threshold*d.Threshold) +
			float64(rows*d.Steps*(d.Steps+1))/d.Decay*(gamma/d.Threshold+gamma*gamma/(d.Threshold*d.Threshold))
		near(t, "right-hand side", right[i], want, 1e-12)
	}
	spikes := make([]uint, 1<<bits)
	for x := range spikes {
		spikes[x], _ = fire(w, bias, rows, cols, d, uint(x))
		fires = fires || spikes[x] != 0
	}
	holds = true
	for x := range spikes {
		for y := range x {
			if float64(ones(spikes[x]^spikes[y])) > right[ones(uint(x^y))] {
				holds = false
			}
		}
	}
	return holds, constant, fires
}

// Theorem 1 without a bias, for all pairs of input trains of layers whose weights are
// enumerated too: it holds, and Γ exceeds 2·N·T if any neuron can fire.
func TestTheorem1WithoutBias(t *testing.T) {
	grid := []float32{-1, 0, 0.25, 0.5, 1.25}
	silent := 0
	for _, shape := range [][3]int{{1, 1, 4}, {1, 2, 3}, {2, 1, 4}, {2, 2, 2}, {1, 3, 2}} {
		rows, cols := shape[0], shape[1]
		w := make([]float32, rows*cols)
		for k := range int(math.Pow(float64(len(grid)), float64(len(w)))) {
			for i := range w {
				w[i] = grid[k%len(grid)]
				k /= len(grid)
			}
			for _, decay := range []float64{1, 0.75, 0.25} {
				for _, theta := range []float64{0.5, 1, 2} {
					d := lipschitz.Dynamics{Decay: decay, Threshold: theta, Steps: shape[2]}
					holds, constant, fires := theorem1(t, w, nil, rows, cols, d)
					if !holds {
						t.Fatalf("weights %v, %+v: Theorem 1 does not hold", w, d)
					}
					if limit := 2 * rows * d.Steps; fires && constant <= float64(limit) {
						t.Fatalf("weights %v, %+v: Γ = %v says something below 2·N·T = %d", w, d, constant, limit)
					}
					if !fires {
						silent++
					}
				}
			}
		}
	}
	if silent == 0 {
		t.Error("no layer is silent, so the condition of the second check is not tested")
	}
}

// The counterexample with a bias, for one step and for several neurons and steps.
func TestTheorem1FailsWithBias(t *testing.T) {
	d := lipschitz.Dynamics{Decay: 1, Threshold: 1, Steps: 1}
	holds, constant, fires := theorem1(t, []float32{0.01}, []float32{0.995}, 1, 1, d)
	if holds || !fires {
		t.Errorf("holds %v, fires %v", holds, fires)
	}
	near(t, "Γ", constant, 0.0408, 1e-6)
	near(t, "right-hand side", must(d.Theorem1(0.01, 0.02, 1, 1)), 0.0409, 1e-12)

	d = lipschitz.Dynamics{Decay: 0.5, Threshold: 1, Steps: 3}
	if holds, _, _ := theorem1(t, []float32{1e-4, 1e-4}, []float32{0.99995, 0.99995}, 2, 1, d); holds {
		t.Error("holds for two neurons and three steps")
	}
	if holds, _, _ := theorem1(t, []float32{1e-4, 1e-4}, nil, 2, 1, d); !holds {
		t.Error("does not hold for the same layer without a bias")
	}
}

// If γ ≥ θ, one spike can change every neuron in every step, for every decay and however
// small Λ is. This is the layer of docs/lipschitz.md. Its weights are in 128ths of θ = 1,
// so their sums do not round.
func TestOneSpikeChangesAll(t *testing.T) {
	const rows, steps, k = 3, 7, 64
	for decay, c := range map[float64]float32{1: 64.0 / 128, 0.5: 86.0 / 128, 0.25: 103.0 / 128} { // ⌈θ/(1+λ)⌉ in 128ths
		d := lipschitz.Dynamics{Decay: decay, Threshold: 1, Steps: steps}
		const eps = 1.0 / 128
		rest := 1 - eps - c
		// Inputs 0 and 1 stand for k inputs of equal weights each, which fire together.
		together := slices.Repeat([]float32{c, rest, eps}, rows)
		train := uint(0b011)
		for step := 1; step < steps; step++ {
			train |= 0b001 << (3 * step)
		}
		a, _ := fire(together, nil, rows, 3, d, train)
		b, _ := fire(together, nil, rows, 3, d, train|0b100)
		if n := ones(a ^ b); n != rows*steps {
			t.Errorf("decay %v: %d differences, want all of %d", decay, n, rows*steps)
		}
		var w []float32
		for range rows {
			w = append(append(append(w, slices.Repeat([]float32{c / k}, k)...), slices.Repeat([]float32{rest / k}, k)...), eps)
		}
		if g, p := must(lipschitz.Gamma(w, rows, 2*k+1)), must(lipschitz.PaperGamma(w, rows, 2*k+1)); g != 1 || p != 2 {
			t.Errorf("decay %v: γ is %v, and %v in Eq. 15; want θ and 2·θ", decay, g, p)
		}
		l, err := lipschitz.Lambda(t.Context(), w, rows, 2*k+1, lipschitz.LambdaSearch{Starts: 1})
		if err != nil || l.Upper > math.Sqrt(rows*(1.0/k+eps*eps)) || l.Upper > 0.22 {
			t.Errorf("decay %v: Λ ≤ %v (%v)", decay, l.Upper, err)
		}
		each := must(d.MaxDifferences(w, nil, rows, 2*k+1))
		if !slices.Equal(each, []int{steps, steps, steps}) {
			t.Errorf("decay %v: MaxDifferences %v", decay, each)
		}
	}
}

// If γ < θ, the reset count depends on γ only and is below N·T.
func TestResetCountBelowAll(t *testing.T) {
	d := lipschitz.Dynamics{Decay: 1, Threshold: 1, Steps: 4}
	w := []float32{0.6, 0.6}
	if g := must(lipschitz.Gamma(w, 2, 1)); g >= 1 {
		t.Fatalf("γ is %v", g)
	}
	if each := must(d.MaxDifferences(w, nil, 2, 1)); !slices.Equal(each, []int{3, 3}) {
		t.Errorf("MaxDifferences %v, want 6 of 8 differences", each)
	}
	checkBounds(t, w, nil, 2, 1, d)
}

func TestTheorem1Errors(t *testing.T) {
	ok := lipschitz.Dynamics{Decay: 1, Threshold: 1, Steps: 2}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := ok.Theorem1(bad, 1, 1, 1)
		wantError(t, err, fmt.Sprintf("lambda is %v", bad))
		_, err = ok.Theorem1(1, bad, 1, 1)
		wantError(t, err, fmt.Sprintf("gamma is %v", bad))
		_, err = ok.Theorem1(1, 1, bad, 1)
		wantError(t, err, fmt.Sprintf("distance is %v", bad))
	}
	_, err := ok.Theorem1(1, 1, 1, -1)
	wantError(t, err, "neurons is -1")
	_, err = lipschitz.Dynamics{Threshold: 1, Steps: 1}.Theorem1(1, 1, 1, 1)
	wantError(t, err, "Theorem1", "decay is 0")
	_, err = lipschitz.PaperGamma([]float32{1, float32(math.NaN())}, 2, 1)
	wantError(t, err, "PaperGamma", "row 1, column 0", "NaN")
}
