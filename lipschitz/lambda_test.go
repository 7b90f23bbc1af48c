package lipschitz_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
)

// svdNorm returns ‖W‖₂ by SingularValues. The values of gonum's SVD are off by up to
// hundredths for some matrices that consist of blocks.
func svdNorm(w []float32, rows, cols int) float64 {
	p := autograd.NewParam(rows, cols)
	p.Import(w)
	return must(lipschitz.SingularValues(p))[0]
}

// amplification returns ‖W·s‖₂/‖s‖₂ from its definition.
func amplification[T int8 | float32](w []float32, rows, cols int, s []T) float64 {
	var num, den float64
	for r := range rows {
		var y float64
		for c, x := range s {
			y += float64(w[r*cols+c]) * float64(x)
		}
		num += y * y
	}
	for _, x := range s {
		den += float64(x) * float64(x)
	}
	return math.Sqrt(num / den)
}

// enumerate returns Λ as the largest of 3ⁿ − 1 ratios.
func enumerate(w []float32, rows, cols int) float64 {
	s := make([]int8, cols)
	most := 0.0
	for {
		i := 0
		for ; i < cols && s[i] == 1; i++ {
			s[i] = -1
		}
		if i == cols {
			return most
		}
		s[i]++
		if slices.ContainsFunc(s, func(x int8) bool { return x != 0 }) {
			most = max(most, amplification(w, rows, cols, s))
		}
	}
}

func lambda(t rapid.TB, w []float32, rows, cols int) lipschitz.LambdaBounds {
	t.Helper()
	b, err := lipschitz.Lambda(context.Background(), w, rows, cols, lipschitz.DefaultLambdaSearch())
	if err != nil {
		t.Fatal(err)
	}
	checkLambda(t, b, w, rows, cols)
	return b
}

// checkLambda checks the documented properties of a result.
func checkLambda(t rapid.TB, b lipschitz.LambdaBounds, w []float32, rows, cols int) {
	t.Helper()
	if !(b.Lower <= b.Upper) {
		t.Errorf("Lower %v > Upper %v", b.Lower, b.Upper)
	}
	if b.Exact && b.Upper > b.Lower*(1+1e-9) {
		t.Errorf("Exact, but [%v, %v]", b.Lower, b.Upper)
	}
	if b.S == nil {
		return
	}
	got := amplification(w, rows, cols, b.S)
	if b.Lower > got*(1+1e-15*float64(rows+cols)) || b.Lower < got*(1-1e-11) {
		t.Errorf("Lower is %v, S attains %v", b.Lower, got)
	}
	for _, x := range b.S {
		if x < -1 || x > 1 {
			t.Errorf("S holds %d", x)
		}
	}
}

func TestLambdaGolden(t *testing.T) {
	f := must(golden.Read("testdata/lipschitz.safetensors"))
	for i := range 4 {
		w := f.Tensors[fmt.Sprintf("%d.w", i)]
		want := must(f.Number(fmt.Sprintf("%d.lambda", i)))
		got := lambda(t, w.Floats, w.Shape[0], w.Shape[1])
		near(t, "Λ", got.Lower, want, 1e-6)
		near(t, "‖W·argmax‖/‖argmax‖", amplification(w.Floats, w.Shape[0], w.Shape[1], f.Tensors[fmt.Sprintf("%d.argmax", i)].Floats), want, 1e-6)
		if !got.Exact {
			t.Errorf("matrix %d: not exact", i)
		}
	}
}

// drawWeights draws Gaussian weights or small integers. Small integers make many s equally
// good and some columns zero.
func drawWeights(t *rapid.T, most int) (w []float32, rows, cols int) {
	rows, cols = rapid.IntRange(1, 12).Draw(t, "rows"), rapid.IntRange(1, most).Draw(t, "cols")
	w = randomWeights(rows, cols, rapid.Uint64().Draw(t, "seed"))
	if rapid.Bool().Draw(t, "integers") {
		for i, x := range w {
			w[i] = float32(math.Round(float64(x)))
		}
	}
	return w, rows, cols
}

func TestLambdaByEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, rows, cols := drawWeights(t, 8)
		want := enumerate(w, rows, cols)
		got := lambda(t, w, rows, cols)
		if !got.Exact {
			t.Errorf("not exact: %+v", got)
		}
		near(t, "Λ", got.Lower, want, 1e-9)
		if got.Upper < want {
			t.Errorf("Upper %v is below Λ = %v", got.Upper, want)
		}
		// The bounds of one local search, without branch and bound.
		loose, err := lipschitz.Lambda(context.Background(), w, rows, cols, lipschitz.LambdaSearch{Starts: 1})
		if err != nil {
			t.Fatal(err)
		}
		checkLambda(t, loose, w, rows, cols)
		if loose.Upper < want || loose.Lower > want*(1+1e-12) || loose.Nodes != 0 {
			t.Errorf("without branch and bound %+v, want %v inside", loose, want)
		}
	})
}

func TestLambdaOfTenColumns(t *testing.T) {
	w := randomWeights(20, 10, 4)
	near(t, "Λ", lambda(t, w, 20, 10).Lower, enumerate(w, 20, 10), 1e-9)
}

func TestLambdaProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, rows, cols := drawWeights(t, 14)
		got := lambda(t, w, rows, cols)
		norm := svdNorm(w, rows, cols)
		if i := slices.IndexFunc(got.S, func(s int8) bool { return s != 0 }); i >= 0 && got.S[i] != 1 {
			t.Errorf("S = %v begins with −1", got.S)
		}
		if got.Lower > norm*(1+1e-12) {
			t.Errorf("Λ = %v > ‖W‖₂ = %v", got.Lower, norm)
		}
		for c := range cols {
			column := make([]int8, cols)
			column[c] = 1
			if n := amplification(w, rows, cols, column); got.Upper < n || got.Lower < n*(1-1e-12) {
				t.Errorf("Λ in [%v, %v], column %d has norm %v", got.Lower, got.Upper, c, n)
			}
		}
		scaled := slices.Clone(w)
		for i := range scaled {
			scaled[i] *= -8
		}
		near(t, "Λ of −8·W", lambda(t, scaled, rows, cols).Lower, 8*got.Lower, 1e-9)
		flipped := slices.Clone(w)
		for r := range rows {
			slices.Reverse(flipped[r*cols : (r+1)*cols])
		}
		near(t, "Λ of permuted columns", lambda(t, flipped, rows, cols).Lower, got.Lower, 1e-9)
		more := append(slices.Clone(w), randomWeights(1, cols, 1)...)
		if l := lambda(t, more, rows+1, cols); l.Lower < got.Lower*(1-1e-9) {
			t.Errorf("Λ is %v, %v with a row more", got.Lower, l.Lower)
		}
	})
}

// Hard cases for the arithmetic: a tiny and a huge scale, columns of very different size,
// equal singular values, a single row.
func TestLambdaOfExtremes(t *testing.T) {
	identity := make([]float32, 36)
	for i := range 6 {
		identity[i*7] = 3
	}
	cases := map[string]struct {
		w          []float32
		rows, cols int
		want       float64
	}{
		"zero":     {make([]float32, 6), 2, 3, 0},
		"one":      {[]float32{-2}, 1, 1, 2},
		"identity": {identity, 6, 6, 3},
		"row":      {[]float32{1, -1, 1, 1}, 1, 4, 2},
		"small":    {[]float32{0x1p-149, -0x1p-149}, 1, 2, 0x1p-149 * math.Sqrt2},
		"large":    {[]float32{math.MaxFloat32, math.MaxFloat32}, 1, 2, math.MaxFloat32 * math.Sqrt2},
		"uneven":   {[]float32{1, 1e-20, 0, 1e-20}, 2, 2, 1},
	}
	for name, c := range cases {
		got := lambda(t, c.w, c.rows, c.cols)
		near(t, name, got.Lower, c.want, 1e-9)
		if !got.Exact {
			t.Errorf("%s: not exact: %+v", name, got)
		}
	}
}

// The interval, the number of nodes and S do not depend on GOMAXPROCS.
func TestLambdaOf32Columns(t *testing.T) {
	racetest.Costly(t)
	w := randomWeights(40, 32, 5)
	var first lipschitz.LambdaBounds
	for i, procs := range []int{1, 2} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			got := lambda(t, w, 40, 32)
			if !got.Exact {
				t.Fatalf("not exact: %+v", got)
			}
			if i == 0 {
				first = got
			} else if got.Lower != first.Lower || got.Upper != first.Upper || got.Nodes != first.Nodes || !slices.Equal(got.S, first.S) {
				t.Errorf("%+v, then %+v", first, got)
			}
		}()
	}
}

// This layer is too large for branch and bound. Its first singular value is dominant, as in
// the first layers of trained networks.
func TestLambdaSandwich(t *testing.T) {
	const rows, cols = 64, 288
	w := randomWeights(rows, cols, 6)
	for i := range w {
		w[i] += float32(math.Sin(float64(i % cols)))
	}
	for _, s := range [][2]int{{rows, cols}, {cols, rows}} {
		rows, cols := s[0], s[1]
		norm := svdNorm(w, rows, cols)
		got, err := lipschitz.Lambda(t.Context(), w, rows, cols, lipschitz.LambdaSearch{Starts: 4})
		if err != nil {
			t.Fatal(err)
		}
		checkLambda(t, got, w, rows, cols)
		t.Logf("%d × %d: %.3f ≤ Λ ≤ %.3f, ‖W‖₂ = %.3f", rows, cols, got.Lower, got.Upper, norm)
		if got.Exact || got.Upper > norm*(1+1e-9) || rows < cols && got.Upper > 0.99*norm {
			t.Errorf("%d × %d: %v ≤ Λ ≤ %v is no tighter than ‖W‖₂ = %v", rows, cols, got.Lower, got.Upper, norm)
		}
		if got.Lower < 0.8*norm {
			t.Errorf("%d × %d: Lower is %v, ‖W‖₂ = %v", rows, cols, got.Lower, norm)
		}
	}
}

func TestLambdaStopped(t *testing.T) {
	racetest.Costly(t)
	w := randomWeights(60, 90, 7)
	norm := svdNorm(w, 60, 90)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		o   lipschitz.LambdaSearch
	}{
		"at once":  {done, lipschitz.DefaultLambdaSearch()},
		"by nodes": {t.Context(), lipschitz.LambdaSearch{Starts: 2, MaxNodes: 10_000}},
	} {
		got, err := lipschitz.Lambda(c.ctx, w, 60, 90, c.o)
		if err != nil || got.Exact || got.Nodes > c.o.MaxNodes+1 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		checkLambda(t, got, w, 60, 90)
		if name == "by nodes" && got.Upper > norm*(1+1e-9) {
			t.Errorf("Upper %v > ‖W‖₂ = %v", got.Upper, norm)
		}
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	got, err := lipschitz.Lambda(soon, w, 60, 90, lipschitz.LambdaSearch{Starts: 2, MaxNodes: math.MaxInt64})
	if err != nil || got.Exact {
		t.Errorf("%+v, %v", got, err)
	}
	checkLambda(t, got, w, 60, 90)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("stopped after %v", d)
	}
}

func TestLambdaErrors(t *testing.T) {
	ok := lipschitz.DefaultLambdaSearch()
	_, err := lipschitz.Lambda(t.Context(), []float32{1, float32(math.NaN())}, 1, 2, ok)
	wantError(t, err, "Lambda", "row 0, column 1", "NaN")
	_, err = lipschitz.Lambda(t.Context(), []float32{1}, 1, 1, lipschitz.LambdaSearch{})
	wantError(t, err, "Starts is 0")
	_, err = lipschitz.Lambda(t.Context(), []float32{1}, 1, 1, lipschitz.LambdaSearch{Starts: 1, MaxNodes: -1})
	wantError(t, err, "MaxNodes is -1")
}

// The bound is at least the largest singular value, and close. The norm of an integer matrix
// a·bᵀ is exactly ‖a‖·‖b‖.
func TestSpectralUpper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
		w := randomWeights(rows, cols, rapid.Uint64().Draw(t, "seed"))
		scale := math.Exp2(float64(rapid.IntRange(-100, 100).Draw(t, "scale")))
		for i := range w {
			w[i] *= float32(scale)
		}
		norm := svdNorm(w, rows, cols)
		got, err := lipschitz.SpectralUpper(w, rows, cols, norm)
		if err != nil {
			t.Fatal(err)
		}
		if got < norm*(1-1e-14) || got > norm*(1+1e-9) {
			t.Errorf("bound %v, ‖W‖₂ = %v", got, norm)
		}
		low, err := lipschitz.SpectralUpper(w, rows, cols, norm*rapid.Float64Range(0, 0.99).Draw(t, "near"))
		if err != nil || low < norm*(1-1e-14) {
			t.Errorf("bound %v from too low a start, ‖W‖₂ = %v (%v)", low, norm, err)
		}

		a, b := make([]float64, rows), make([]float64, cols)
		var a2, b2 float64
		for i := range a {
			a[i] = float64(rapid.IntRange(-9, 9).Draw(t, "a"))
			a2 += a[i] * a[i]
		}
		for j := range b {
			b[j] = float64(rapid.IntRange(-9, 9).Draw(t, "b"))
			b2 += b[j] * b[j]
		}
		for i := range w {
			w[i] = float32(a[i/cols] * b[i%cols])
		}
		exact := math.Sqrt(a2 * b2)
		got, err = lipschitz.SpectralUpper(w, rows, cols, exact)
		if err != nil || got < exact || got > exact*(1+1e-9) {
			t.Errorf("bound %v, ‖a·bᵀ‖₂ = %v (%v)", got, exact, err)
		}
	})
}

func TestSpectralUpperErrors(t *testing.T) {
	for _, near := range []float64{-1, math.NaN(), math.Inf(1)} {
		_, err := lipschitz.SpectralUpper([]float32{1}, 1, 1, near)
		wantError(t, err, fmt.Sprintf("near is %v", near))
	}
	_, err := lipschitz.SpectralUpper([]float32{float32(math.Inf(1))}, 1, 1, 1)
	wantError(t, err, "SpectralUpper", "row 0, column 0", "+Inf")
}

// BenchmarkLambda proves Λ of square Gaussian matrices.
func BenchmarkLambda(b *testing.B) {
	for _, n := range []int{24, 32, 48} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var nodes int64
			for i := 0; b.Loop(); i++ {
				got, err := lipschitz.Lambda(b.Context(), randomWeights(n, n, uint64(i)), n, n, lipschitz.DefaultLambdaSearch())
				if err != nil || !got.Exact {
					b.Fatal(got, err)
				}
				nodes += got.Nodes
			}
			b.ReportMetric(float64(nodes)/float64(b.N), "nodes/op")
		})
	}
}
