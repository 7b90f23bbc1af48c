package lipschitz_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/tensor"
)

func near(t rapid.TB, what string, got, want, rel float64) {
	t.Helper()
	if !(math.Abs(got-want) <= rel*math.Abs(want)) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// wantError fails unless err contains all strings.
func wantError(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", says)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
}

func randomWeights(rows, cols int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 0))
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	return w
}

func randomSpikes(s tensor.Shape, rate float64, seed uint64) *tensor.Spikes {
	r := rand.New(rand.NewPCG(seed, 1))
	x := tensor.NewNCHW(s.Frames(), s.C, s.H, s.W)
	for i := range x.Data {
		if r.Float64() < rate {
			x.Data[i] = 1
		}
	}
	out := tensor.NewSpikes(s)
	out.PackSpikes(x)
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestGolden(t *testing.T) {
	f := must(golden.Read("testdata/lipschitz.safetensors"))
	for i := range 4 {
		w := f.Tensors[fmt.Sprintf("%d.w", i)]
		g, err := lipschitz.Gamma(w.Floats, w.Shape[0], w.Shape[1])
		if err != nil {
			t.Fatal(err)
		}
		near(t, "γ", g, must(f.Number(fmt.Sprintf("%d.gamma", i))), 1e-6)
		s, err := lipschitz.SpectralNorm(w.Floats, w.Shape[0], w.Shape[1], lipschitz.DefaultLanczos())
		if err != nil {
			t.Fatal(err)
		}
		near(t, "‖W‖₂", s.Sigma, must(f.Number(fmt.Sprintf("%d.sigma_max", i))), 1e-6)
		inf := must(f.Number(fmt.Sprintf("%d.norm_inf", i)))
		near(t, "‖W‖∞", normInf(w.Floats, w.Shape[0], w.Shape[1]), inf, 1e-6)
	}

	// Rows are steps and columns are neurons.
	train := func(name string) *tensor.Spikes {
		v := f.Tensors[name]
		s := tensor.NewSpikes(tensor.Shape{N: 1, Steps: v.Shape[0], C: v.Shape[1], H: 1, W: 1})
		s.PackSpikes(tensor.NCHW{N: v.Shape[0], C: v.Shape[1], H: 1, W: 1, Data: v.Floats})
		return s
	}
	for p := 1; p <= 3; p++ {
		d, err := lipschitz.Distance(float64(p), train("d.a"), train("d.b"))
		if err != nil || len(d) != 1 {
			t.Fatal(d, err)
		}
		near(t, fmt.Sprintf("D%d", p), d[0], must(f.Number(fmt.Sprintf("d%d", p))), 1e-9)
	}
}

// Distance equals Eq. 12, evaluated literally for each image.
func TestDAgainstEquation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := tensor.Shape{
			N:     rapid.IntRange(0, 3).Draw(t, "N"),
			Steps: rapid.IntRange(1, 4).Draw(t, "T"),
			C:     rapid.SampledFrom([]int{1, 15, 16, 17, 40}).Draw(t, "C"),
			H:     rapid.IntRange(1, 3).Draw(t, "H"),
			W:     rapid.IntRange(1, 3).Draw(t, "W"),
		}
		p := rapid.Float64Range(1, 5).Draw(t, "p")
		seed := rapid.Uint64().Draw(t, "seed")
		a, b := randomSpikes(s, 0.4, seed), randomSpikes(s, 0.4, seed+1)
		got, err := lipschitz.Distance(p, a, b)
		if err != nil || len(got) != s.N {
			t.Fatalf("%d distances, %v; want %d", len(got), err, s.N)
		}
		x, y := a.Dense(), b.Dense()
		for n := range s.N {
			var sum float64
			for step := range s.Steps {
				for c := range s.C {
					for i := range s.Pixels() {
						h, w := i/s.W, i%s.W
						sum += math.Pow(math.Abs(float64(x.At(n, step, c, h, w)-y.At(n, step, c, h, w))), p)
					}
				}
			}
			near(t, "D", got[n], math.Pow(sum, 1/p), 1e-12)
		}
	})
}

func TestDIsAMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := tensor.Shape{N: 2, Steps: 3, C: 20, H: 2, W: 2}
		p := rapid.Float64Range(1, 4).Draw(t, "p")
		var x [3]*tensor.Spikes
		for i := range x {
			x[i] = randomSpikes(s, rapid.Float64Range(0, 1).Draw(t, "rate"), rapid.Uint64().Draw(t, "seed"))
		}
		d := func(a, b *tensor.Spikes) []float64 {
			v, err := lipschitz.Distance(p, a, b)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		ab, ba, bc, ac, aa := d(x[0], x[1]), d(x[1], x[0]), d(x[1], x[2]), d(x[0], x[2]), d(x[0], x[0])
		for n := range s.N {
			if aa[n] != 0 || ab[n] != ba[n] {
				t.Fatalf("D(a,a) = %v, D(a,b) = %v, D(b,a) = %v", aa[n], ab[n], ba[n])
			}
			if ac[n] > (ab[n]+bc[n])*(1+1e-12) {
				t.Fatalf("D(a,c) = %v > D(a,b) + D(b,c) = %v", ac[n], ab[n]+bc[n])
			}
			if top := math.Pow(float64(s.Steps*s.Neurons()), 1/p); ab[n] > top*(1+1e-12) {
				t.Fatalf("D = %v, more than %v", ab[n], top)
			}
		}
	})
}

func TestDErrors(t *testing.T) {
	s := tensor.Shape{N: 2, Steps: 3, C: 20, H: 2, W: 2}
	a := tensor.NewSpikes(s)
	for _, p := range []float64{0.999, 0, -1, math.NaN(), math.Inf(1)} {
		_, err := lipschitz.Distance(p, a, a)
		wantError(t, err, fmt.Sprintf("p is %v", p))
	}
	_, err := lipschitz.Distance(2, a, tensor.NewSpikes(s.WithSteps(4)))
	wantError(t, err, "2×3×20×2×2", "2×4×20×2×2")
}

func TestSpectralNormAgainstSVD(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 30).Draw(t, "rows"), rapid.IntRange(1, 30).Draw(t, "cols")
		w := randomWeights(rows, cols, rapid.Uint64().Draw(t, "seed"))
		// The squares of these scales underflow and overflow float32.
		scale := math.Exp2(float64(rapid.IntRange(-100, 100).Draw(t, "scale")))
		m := mat.NewDense(rows, cols, nil)
		for i := range w {
			w[i] *= float32(scale)
			m.Set(i/cols, i%cols, float64(w[i]))
		}
		var svd mat.SVD
		if !svd.Factorize(m, mat.SVDNone) {
			t.Fatal("SVD failed")
		}
		want := svd.Values(nil)[0]
		o := lipschitz.DefaultLanczos()
		got, err := lipschitz.SpectralNorm(w, rows, cols, o)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "‖W‖₂", got.Sigma, want, 1e-5)
		if got.Sigma > want*(1+1e-12) {
			t.Errorf("Sigma %v is above ‖W‖₂ = %v", got.Sigma, want)
		}
		if got.Residual > o.Tol {
			t.Errorf("residual %v above the tolerance", got.Residual)
		}
		var wv mat.VecDense
		wv.MulVec(m, mat.NewVecDense(cols, got.Vector))
		near(t, "‖Vector‖", mat.Norm(mat.NewVecDense(cols, got.Vector), 2), 1, 1e-12)
		near(t, "‖W·Vector‖", wv.Norm(2), got.Sigma, 1e-12)
	})
}

// The all-ones vector is a common start. It is orthogonal to the singular vector here.
func TestSpectralNormOfZeroRowSums(t *testing.T) {
	got, err := lipschitz.SpectralNorm([]float32{5, -5, 1, 1}, 2, 2, lipschitz.DefaultLanczos())
	if err != nil {
		t.Fatal(err)
	}
	near(t, "‖W‖₂", got.Sigma, math.Sqrt(50), 1e-9)
}

// An iteration can pass close to another singular vector on its way to the largest one. It
// does so by chance for these Gaussian matrices. It also does so if all values but one are
// nearly equal and the start is almost orthogonal to that one's vector.
func TestSpectralNormIsTheLargest(t *testing.T) {
	racetest.Costly(t)
	for _, c := range []struct {
		rows, cols int
		seed       uint64
	}{
		{32, 3, 171745}, {32, 3, 112978}, {3, 32, 240330}, {3, 24, 165426},
		{21, 2, 18248}, {2, 21, 65326}, {3, 24, 6553},
	} {
		w := randomWeights(c.rows, c.cols, c.seed)
		got, err := lipschitz.SpectralNorm(w, c.rows, c.cols, lipschitz.DefaultLanczos())
		if err != nil {
			t.Fatal(err)
		}
		near(t, "‖W‖₂", got.Sigma, svdNorm(w, c.rows, c.cols), 1e-9)
	}
	const n = 512
	for largest := 0; largest < n; largest += 19 {
		w := make([]float32, n*n)
		for i := range n {
			w[i*n+i] = 1 - 5e-4*float32(i)/n
		}
		w[largest*n+largest] = 1.02
		got, err := lipschitz.SpectralNorm(w, n, n, lipschitz.Lanczos{Tol: 1e-3, MaxIterations: 30})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "‖W‖₂", got.Sigma, 1.02, 1e-3)
	}
}

// Hard spectra and tolerances down to rounding, at sizes that need restarts.
func TestSpectralNormOfSpectra(t *testing.T) {
	racetest.Costly(t)
	const rows, cols = 200, 300
	diagonal := func(value func(i int) float64) []float32 {
		w := make([]float32, rows*cols)
		for i := range rows {
			w[i*cols+i] = float32(value(i))
		}
		return w
	}
	rankOne := make([]float32, rows*cols)
	for i := range rankOne {
		rankOne[i] = float32(i/cols+1) * float32(i%cols+1)
	}
	for name, w := range map[string][]float32{
		"Gaussian": randomWeights(rows, cols, 3),
		"equal":    diagonal(func(int) float64 { return 1 }),
		"close":    diagonal(func(i int) float64 { return 1 - 1e-6*float64(i%40) }),
		"linear":   diagonal(func(i int) float64 { return 1 - 1e-3*float64(i) }),
		"rank 1":   rankOne,
	} {
		want := svdNorm(w, rows, cols)
		for _, tol := range []float64{1e-3, 1e-8, 1e-13} {
			got, err := lipschitz.SpectralNorm(w, rows, cols, lipschitz.Lanczos{Tol: tol, MaxIterations: 250})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			near(t, name, got.Sigma, want, max(tol, 1e-14))
		}
	}
}

func TestSpectralNormOfZero(t *testing.T) {
	got, err := lipschitz.SpectralNorm(make([]float32, 12), 3, 4, lipschitz.DefaultLanczos())
	if err != nil || got.Sigma != 0 || len(got.Vector) != 4 {
		t.Errorf("got %+v, %v; want 0", got, err)
	}
}

func TestSpectralNormOfEqualSingularValues(t *testing.T) {
	w := make([]float32, 100)
	for i := range 10 {
		w[i*11] = 3
	}
	got, err := lipschitz.SpectralNorm(w, 10, 10, lipschitz.DefaultLanczos())
	if err != nil {
		t.Fatal(err)
	}
	near(t, "‖W‖₂", got.Sigma, 3, 1e-12)
}

func TestSpectralNormErrors(t *testing.T) {
	ok := lipschitz.DefaultLanczos()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := lipschitz.SpectralNorm([]float32{1, 2, 3, 4, 5, float32(bad)}, 2, 3, ok)
		wantError(t, err, "row 1, column 2", fmt.Sprint(bad))
	}
	for _, tol := range []float64{0, -1, 1, math.NaN()} {
		_, err := lipschitz.SpectralNorm([]float32{1}, 1, 1, lipschitz.Lanczos{Tol: tol, MaxIterations: 10})
		wantError(t, err, fmt.Sprintf("Tol is %v", tol))
	}
	_, err := lipschitz.SpectralNorm([]float32{1}, 1, 1, lipschitz.Lanczos{Tol: 1e-5})
	wantError(t, err, "MaxIterations is 0")

	// Forty singular values that differ by 1 % need more than 5 iterations.
	w := make([]float32, 1600)
	for i := range 40 {
		w[i*41] = 1 + float32(i)/100
	}
	n, err := lipschitz.SpectralNorm(w, 40, 40, lipschitz.Lanczos{Tol: 1e-6, MaxIterations: 5})
	wantError(t, err, "after 5 iterations", "1e-06")
	if n.Sigma != 0 || n.Vector != nil {
		t.Errorf("an unfinished result was returned: %+v", n)
	}
}

func TestSameBitsAtAnyThreads(t *testing.T) {
	w := randomWeights(40, 70, 3)
	var first lipschitz.Norm
	for i, procs := range []int{1, 2, 2} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			got, err := lipschitz.SpectralNorm(w, 40, 70, lipschitz.DefaultLanczos())
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = got
			} else if got.Sigma != first.Sigma || !slices.Equal(got.Vector, first.Vector) {
				t.Error("results differ")
			}
		}()
	}
}

// normInf returns ‖W‖∞, the largest sum of magnitudes of a row.
func normInf(w []float32, rows, cols int) (most float64) {
	for r := range rows {
		sum := 0.0
		for _, v := range w[r*cols:][:cols] {
			sum += math.Abs(float64(v))
		}
		most = max(most, sum)
	}
	return most
}

// Norms of a matrix bound Λ and γ: ‖W‖∞/√cols ≤ Λ ≤ ‖W‖₂ (Proposition 1), and
// ‖W‖∞ ≤ γ ≤ 2·‖W‖∞ ≤ 2·√cols·‖W‖₂. With orthonormal columns, Λ is 1.
func TestNormsBoundLambdaAndGamma(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, rows, cols := drawWeights(t, 10)
		l, gamma := lambda(t, w, rows, cols), must(lipschitz.Gamma(w, rows, cols))
		norm, inf := svdNorm(w, rows, cols), normInf(w, rows, cols)
		const slack = 1 + 1e-12
		if l.Lower > norm*slack {
			t.Errorf("Λ ≥ %v > ‖W‖₂ = %v", l.Lower, norm)
		}
		if gamma*slack < inf || gamma > 2*inf*slack || inf > math.Sqrt(float64(cols))*norm*slack {
			t.Errorf("γ = %v, ‖W‖∞ = %v, ‖W‖₂ = %v of %d columns", gamma, inf, norm, cols)
		}
		// The signs s of the row with the largest sum have ‖W·s‖₂/‖s‖₂ ≥ ‖W‖∞/√cols.
		if l.Upper*slack < inf/math.Sqrt(float64(cols)) {
			t.Errorf("Λ ≤ %v < ‖W‖∞/√%d = %v", l.Upper, cols, inf/math.Sqrt(float64(cols)))
		}
		if rows < cols {
			return
		}
		var qr mat.QR
		m := mat.NewDense(rows, cols, nil)
		for i, v := range w {
			m.Set(i/cols, i%cols, float64(v))
		}
		qr.Factorize(m)
		var q mat.Dense
		qr.QTo(&q)
		orthonormal := make([]float32, rows*cols)
		for i := range orthonormal {
			orthonormal[i] = float32(q.At(i/cols, i%cols))
		}
		near(t, "Λ of orthonormal columns", lambda(t, orthonormal, rows, cols).Lower, 1, 1e-6)
	})
}

func TestGammaScalesAndIgnoresColumnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 8).Draw(t, "rows"), rapid.IntRange(1, 8).Draw(t, "cols")
		w := randomWeights(rows, cols, rapid.Uint64().Draw(t, "seed"))
		gamma := func(v []float32) float64 {
			g, err := lipschitz.Gamma(v, rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		scaled := slices.Clone(w)
		for i := range scaled {
			scaled[i] *= -4
		}
		near(t, "γ of −4·W", gamma(scaled), 4*gamma(w), 1e-12)
		flipped := slices.Clone(w)
		for r := range rows {
			slices.Reverse(flipped[r*cols : (r+1)*cols])
		}
		near(t, "γ of permuted columns", gamma(flipped), gamma(w), 1e-12)
	})
	if g, err := lipschitz.Gamma(make([]float32, 6), 2, 3); g != 0 || err != nil {
		t.Errorf("γ of zero = %v, %v", g, err)
	}
}

// For all input trains, γ is the range of the currents, and the membrane bounds hold for every
// potential.
func TestBoundsByEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rows, cols = 2, 3
		steps := rapid.IntRange(1, 4).Draw(t, "T")
		decay := rapid.SampledFrom([]float64{1, 0.9, 0.5}).Draw(t, "decay")
		theta := rapid.SampledFrom([]float64{0.3, 1, 2.5}).Draw(t, "threshold")
		w := randomWeights(rows, cols, rapid.Uint64().Draw(t, "seed"))
		var bias []float32
		if rapid.Bool().Draw(t, "with bias") {
			bias = randomWeights(1, rows, rapid.Uint64().Draw(t, "bias"))
		}

		lowest, highest := math.Inf(1), math.Inf(-1)
		for trains := range 1 << (cols * steps) {
			for r := range rows {
				m := 0.0
				for step := range steps {
					if m >= theta {
						m = 0
					}
					m *= decay
					if bias != nil {
						m += float64(bias[r])
					}
					for c := range cols {
						if trains>>(step*cols+c)&1 == 1 {
							m += float64(w[r*cols+c])
						}
					}
					lowest, highest = min(lowest, m), max(highest, m)
				}
			}
		}
		lo, hi, err := lipschitz.MembraneBounds(w, bias, rows, cols, decay, theta, steps)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(lo-lowest) > 1e-9 {
			t.Errorf("lo is %v, the lowest potential %v", lo, lowest)
		}
		if hi < highest-1e-9 {
			t.Errorf("hi is %v, the highest potential %v", hi, highest)
		}
		if steps == 1 && bias == nil {
			g, err := lipschitz.Gamma(w, rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "R for T = 1", hi-lo, g, 1e-12)
			near(t, "the range of currents", highest-lowest, g, 1e-9)
		}
	})
}

// The weight 0.75 leaves the potential 0.75 below θ = 1, and the second step adds 0.75. The
// weight −2 reaches −2·(1 + ½ + ¼) in three steps with the decay ½. The weight 0.75 then
// reaches at most ½·θ + 0.75.
func TestMembraneBoundsByHand(t *testing.T) {
	lo, hi, err := lipschitz.MembraneBounds([]float32{0.75}, nil, 1, 1, 1, 1, 2)
	if lo != 0 || hi != 1.5 || err != nil {
		t.Errorf("got [%v, %v], %v; want [0, 1.5]", lo, hi, err)
	}
	lo, hi, err = lipschitz.MembraneBounds([]float32{0.75, -2}, nil, 1, 2, 0.5, 1, 3)
	if lo != -3.5 || hi != 1.25 || err != nil {
		t.Errorf("got [%v, %v], %v; want [-3.5, 1.25]", lo, hi, err)
	}
}

func TestBoundsErrors(t *testing.T) {
	nan := float32(math.NaN())
	_, err := lipschitz.Gamma([]float32{1, nan}, 2, 1)
	wantError(t, err, "Gamma", "row 1, column 0", "NaN")
	_, _, err = lipschitz.MembraneBounds([]float32{1, nan}, nil, 1, 2, 1, 1, 1)
	wantError(t, err, "MembraneBounds", "row 0, column 1", "NaN")
	_, _, err = lipschitz.MembraneBounds([]float32{1, 1}, []float32{0, nan}, 2, 1, 1, 1, 1)
	wantError(t, err, "MembraneBounds", "the bias of row 1 is NaN")
	for _, c := range []struct {
		decay, threshold float64
		steps            int
		says             string
	}{
		{0, 1, 1, "decay is 0"},
		{1.5, 1, 1, "decay is 1.5"},
		{math.NaN(), 1, 1, "decay is NaN"},
		{1, 0, 1, "threshold is 0"},
		{1, math.Inf(1), 1, "threshold is +Inf"},
		{1, math.NaN(), 1, "threshold is NaN"},
		{1, 1, 0, "0 steps"},
	} {
		_, _, err := lipschitz.MembraneBounds([]float32{1}, nil, 1, 1, c.decay, c.threshold, c.steps)
		wantError(t, err, c.says)
	}
}

func TestPanicsOnWrongLength(t *testing.T) {
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "5 values for a 2 × 3 matrix") {
			t.Errorf("panic %q", s)
		}
	}()
	_, _ = lipschitz.Gamma(make([]float32, 5), 2, 3)
}

func BenchmarkSpectralNorm(b *testing.B) {
	const rows, cols = 256, 1152
	w := randomWeights(rows, cols, 1)
	var n lipschitz.Norm
	for b.Loop() {
		var err error
		if n, err = lipschitz.SpectralNorm(w, rows, cols, lipschitz.DefaultLanczos()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n.Iterations), "iterations")
}
