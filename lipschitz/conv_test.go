package lipschitz_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/tensor"
)

func drawConv(t *rapid.T) lipschitz.Conv {
	c := lipschitz.Conv{
		Cout: rapid.IntRange(1, 4).Draw(t, "Cout"), Cin: rapid.IntRange(1, 4).Draw(t, "Cin"),
		KH: rapid.IntRange(1, 4).Draw(t, "KH"), KW: rapid.IntRange(1, 4).Draw(t, "KW"),
		Stride: rapid.IntRange(1, 3).Draw(t, "stride"), Pad: rapid.IntRange(0, 2).Draw(t, "pad"),
	}
	c.Height, c.Width = rapid.IntRange(c.KH, 8).Draw(t, "H"), rapid.IntRange(c.KW, 8).Draw(t, "W")
	c.Weight = randomWeights(c.Cout, c.Cin*c.KH*c.KW, rapid.Uint64().Draw(t, "seed"))
	return c
}

// apply runs the convolution in the way of the networks.
func apply(c lipschitz.Conv, x []float32) []float32 {
	w := autograd.NewParam(c.Cout, c.Cin, c.KH, c.KW)
	w.Import(c.Weight)
	var tape autograd.Tape
	in := tape.Leaf(tensor.NCHW{N: 1, C: c.Cin, H: c.Height, W: c.Width, Data: x}, false)
	return autograd.Conv2D(&tape, in, w, nil, c.Stride, c.Pad).Dense().Unpack().Data
}

func product(w []float32, rows, cols int, x []float32) []float64 {
	y := make([]float64, rows)
	for i, v := range w {
		y[i/cols] += float64(v) * float64(x[i%cols])
	}
	return y
}

func wantClose(t rapid.TB, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range want {
		if math.Abs(float64(got[i])-v) > 1e-4 {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], v)
		}
	}
}

func TestConvDenseIsTheConvolution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConv(t)
		w, rows, cols := c.Dense()
		x := randomWeights(1, cols, 5)
		wantClose(t, "convolution", apply(c, x), product(w, rows, cols, x))
	})
}

// An iteration from one vector would stop at the second singular value here, a fifteenth
// below the first.
func TestConvNormIsTheLargest(t *testing.T) {
	c := lipschitz.Conv{
		Cout: 2, Cin: 2, KH: 4, KW: 3, Stride: 1, Pad: 1, Height: 4, Width: 6,
		Weight: randomWeights(2, 2*4*3, 0x696),
	}
	got, err := c.Norm(t.Context(), lipschitz.DefaultConvSearch())
	if err != nil {
		t.Fatal(err)
	}
	w, rows, cols := c.Dense()
	near(t, "Lower", got.Lower, svdNorm(w, rows, cols), 1e-3)
}

// All bounds hold for the largest singular value of the dense matrix. The norm of the
// reshaped matrix has the documented relation to it.
func TestConvNormAgainstSVD(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConv(t)
		o := lipschitz.DefaultConvSearch()
		o.Lanczos.MaxIterations = 100_000 // small maps can have singular values that nearly tie
		scale := float32(math.Exp2(float64(rapid.IntRange(-90, 90).Draw(t, "scale"))))
		for i := range c.Weight {
			c.Weight[i] *= scale
		}
		got, err := c.Norm(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		w, rows, cols := c.Dense()
		norm := svdNorm(w, rows, cols)
		if got.Lower > norm*(1+1e-14) || got.Lower < 0.9999*norm {
			t.Errorf("Lower is %v, ‖conv‖ = %v", got.Lower, norm)
		}
		for name, bound := range map[string]float64{
			"Upper": got.Upper, "ByOverlaps": got.ByOverlaps, "ByFrequencies": got.ByFrequencies, "ByDense": got.ByDense,
		} {
			if bound < norm*(1-1e-14) {
				t.Errorf("%s is %v, ‖conv‖ = %v", name, bound, norm)
			}
		}
		if got.Upper > 1.01*norm || got.Upper != min(got.ByOverlaps, got.ByFrequencies, got.ByDense) {
			t.Errorf("%+v, ‖conv‖ = %v", got, norm)
		}
		reshaped := svdNorm(c.Weight, c.Cout, c.Cin*c.KH*c.KW)
		near(t, "Reshaped", got.Reshaped, reshaped, 1e-8)
		if norm > math.Sqrt(float64(c.Overlaps()))*reshaped*(1+1e-12) {
			t.Errorf("‖conv‖ = %v > √%d·%v", norm, c.Overlaps(), reshaped)
		}
		if c.Pad == 0 && reshaped > norm*(1+1e-12) { // every window lies within
			t.Errorf("‖W‖ = %v > ‖conv‖ = %v", reshaped, norm)
		}
	})
}

// A box filter multiplies a large constant image by 9. The bounds by overlaps and by
// frequencies are both 9. The border of the image keeps the norm below 9.
func TestConvNormOfBox(t *testing.T) {
	c := lipschitz.Conv{Weight: make([]float32, 9), Cout: 1, Cin: 1, KH: 3, KW: 3, Stride: 1, Pad: 1, Height: 30, Width: 30}
	for i := range c.Weight {
		c.Weight[i] = 1
	}
	got, err := c.Norm(t.Context(), lipschitz.ConvSearch{Lanczos: lipschitz.Lanczos{Tol: 1e-5, MaxIterations: 5000}, Grid: 256})
	if err != nil {
		t.Fatal(err)
	}
	// The largest eigenvalue of each of the two tridiagonal factors is 1 + 2·cos(π/31).
	near(t, "Lower", got.Lower, math.Pow(1+2*math.Cos(math.Pi/31), 2), 1e-5)
	near(t, "Reshaped", got.Reshaped, 3, 1e-8)
	near(t, "ByOverlaps", got.ByOverlaps, 9, 1e-8)
	near(t, "ByFrequencies", got.ByFrequencies, 9/math.Cos(2*math.Pi/256), 1e-6)
	if !math.IsInf(got.ByDense, 1) {
		t.Errorf("ByDense is %v without MaxDense", got.ByDense)
	}
}

// The bound by frequencies holds for every grid. It approaches the norm of the map on a
// large image.
func TestConvNormGrids(t *testing.T) {
	racetest.Costly(t)
	for _, stride := range []int{1, 2} {
		c := lipschitz.Conv{Weight: randomWeights(3, 2*9, 8), Cout: 3, Cin: 2, KH: 3, KW: 3, Stride: stride, Pad: 1, Height: 24, Width: 24}
		last := math.Inf(1)
		for _, grid := range []int{5, 8, 16, 64} {
			o := lipschitz.DefaultConvSearch()
			o.Grid = grid
			got, err := c.Norm(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if got.ByFrequencies < got.Lower || got.ByFrequencies > last*1.1 {
				t.Errorf("stride %d, grid %d: %+v", stride, grid, got)
			}
			if last = got.ByFrequencies; grid == 64 && last > 1.05*got.Lower {
				t.Errorf("stride %d: %+v is not close", stride, got)
			}
		}
	}
}

// The bound by frequencies is at least every norm ‖Ŵ(ω)‖ on another grid, and it is close.
func TestConvNormByFrequencies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConv(t)
		o := lipschitz.DefaultConvSearch()
		o.Lanczos.Tol, o.Lanczos.MaxIterations, o.MaxDense = 0.1, 100_000, 0
		got, err := c.Norm(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s := c.Stride
		in := c.Cin * s * s
		most := 0.0
		const n = 12
		for at := range n * n {
			wy, wx := 2*math.Pi*float64(at/n)/n, 2*math.Pi*float64(at%n)/n
			// Re −Im
			// Im  Re
			m := mat.NewDense(2*c.Cout, 2*in, nil)
			for i, v := range c.Weight {
				oc, ky, kx := i/(c.KH*c.KW), i/c.KW%c.KH, i%c.KW
				row, col := oc/c.Cin, (oc%c.Cin*s+ky%s)*s+kx%s
				sin, cos := math.Sincos(float64(ky/s)*wy + float64(kx/s)*wx)
				re, im := float64(v)*cos, float64(v)*sin
				m.Set(row, col, m.At(row, col)+re)
				m.Set(c.Cout+row, in+col, m.At(c.Cout+row, in+col)+re)
				m.Set(c.Cout+row, col, m.At(c.Cout+row, col)+im)
				m.Set(row, in+col, m.At(row, in+col)-im)
			}
			var svd mat.SVD
			if !svd.Factorize(m, mat.SVDNone) {
				t.Fatal("SVD failed")
			}
			most = max(most, svd.Values(nil)[0])
		}
		if got.ByFrequencies < most {
			t.Errorf("ByFrequencies is %v, ‖Ŵ(ω)‖ reaches %v", got.ByFrequencies, most)
		}
		// m is at most 3 in both directions.
		if got.ByFrequencies*math.Cos(3*math.Pi/32) > most/math.Cos(3*math.Pi/n)*(1+1e-6) {
			t.Errorf("ByFrequencies is %v, ‖Ŵ(ω)‖ reaches %v on a grid of %d", got.ByFrequencies, most, n)
		}
	})
}

func TestConvFoldsAveragePooling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConv(t)
		k := rapid.IntRange(1, 3).Draw(t, "k")
		pool := func(x []float32, channels, h, w int) []float64 {
			var y []float64
			for ch := range channels {
				for i := range h / k {
					for j := range w / k {
						var sum float64
						for a := range k * k {
							sum += float64(x[(ch*h+i*k+a/k)*w+j*k+a%k])
						}
						y = append(y, sum/float64(k*k))
					}
				}
			}
			return y
		}

		// No window contains the remainder of the image.
		h, w := c.Height*k, c.Width*k
		folded := c.AfterAvgPool(k, h+k-1, w)
		x := randomWeights(1, c.Cin*h*w, 6)
		var pooled []float32
		for _, v := range pool(x, c.Cin, h, w) {
			pooled = append(pooled, float32(v))
		}
		m, rows, cols := c.Dense()
		wantClose(t, "after the pooling", apply(folded, x), product(m, rows, cols, pooled))

		oh, ow := c.Out()
		if oh < k || ow < k {
			return
		}
		x = randomWeights(1, c.Cin*c.Height*c.Width, 7)
		wantClose(t, "before the pooling", apply(c.BeforeAvgPool(k), x), pool(apply(c, x), c.Cout, oh, ow))
	})
}

func TestBatchNormFolds(t *testing.T) {
	s := &autograd.BatchNormState{
		Weight: autograd.NewParam(2), Bias: autograd.NewParam(2),
		RunningMean: autograd.NewBuffer(2), RunningVar: autograd.NewBuffer(2), Eps: 0.25,
	}
	s.Weight.Import([]float32{3, -1})
	s.RunningVar.Import([]float32{2, 0})
	c := lipschitz.Conv{Weight: []float32{1, 2, 3, 4}, Cout: 2, Cin: 2, KH: 1, KW: 1, Stride: 1, Height: 1, Width: 1}
	got := c.Scale(lipschitz.BatchNormScale(s)).Weight // 3/√2.25 = 2, −1/√0.25 = −2
	if fmt.Sprint(got) != "[2 4 -6 -8]" || fmt.Sprint(c.Weight) != "[1 2 3 4]" {
		t.Errorf("%v, then %v", got, c.Weight)
	}
}

func TestConvNormErrors(t *testing.T) {
	c := lipschitz.Conv{Weight: []float32{1, 0, 0, 1, 1, 1, 1, 2, 1}, Cout: 1, Cin: 1, KH: 3, KW: 3, Stride: 1, Pad: 1, Height: 9, Width: 9}
	ok := lipschitz.DefaultConvSearch()
	bad := ok
	bad.Lanczos.Tol = 0
	_, err := c.Norm(t.Context(), bad)
	wantError(t, err, "Lanczos.Tol is 0")
	bad = ok
	bad.Lanczos.MaxIterations = 0
	_, err = c.Norm(t.Context(), bad)
	wantError(t, err, "Lanczos.MaxIterations is 0")
	bad = ok
	bad.Grid = 4
	_, err = c.Norm(t.Context(), bad)
	wantError(t, err, "Grid is 4", "expected 0 or at least 5")
	bad = ok
	bad.MaxDense = -1
	_, err = c.Norm(t.Context(), bad)
	wantError(t, err, "MaxDense is -1")
	bad = ok
	bad.Lanczos = lipschitz.Lanczos{Tol: 1e-5, MaxIterations: 3}
	_, err = c.Norm(t.Context(), bad)
	wantError(t, err, "after 3 iterations", "1e-05")
	c.Weight[4] = float32(math.NaN())
	_, err = c.Norm(t.Context(), ok)
	wantError(t, err, "row 0, column 4", "NaN")

	c.Weight = make([]float32, 9)
	if n, err := c.Norm(t.Context(), ok); err != nil || n.Upper != 0 {
		t.Errorf("zero weights: %+v, %v", n, err)
	}
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "8 values for a weight 1×1×3×3") {
			t.Errorf("panic %q", s)
		}
	}()
	c.Weight = c.Weight[:8]
	_, _ = c.Norm(t.Context(), ok)
}

// A 1×1 convolution has the singular values of its weight, once for every pixel. The largest
// value of gonum's SVD is 3e-6 too large here.
func TestSingularValuesThatAreEqual(t *testing.T) {
	c := lipschitz.Conv{Cout: 4, Cin: 4, KH: 1, KW: 1, Stride: 1, Pad: 1, Height: 7, Width: 8, Weight: randomWeights(4, 4, 0)}
	of := func(w []float32, rows, cols int) []float64 {
		p := autograd.NewParam(rows, cols)
		p.Import(w)
		return must(lipschitz.SingularValues(p))
	}
	want := of(c.Weight, 4, 4)
	for i, v := range of(c.Dense()) {
		near(t, fmt.Sprint(i), v, want[i/56], 1e-10)
	}
}

func TestSingularValues(t *testing.T) {
	for _, shape := range [][]int{{5, 7}, {7, 5}, {3, 2, 3, 3}} {
		p := autograd.NewParam(shape...)
		w := randomWeights(1, p.Len(), 9)
		p.Import(w)
		got, err := lipschitz.SingularValues(p)
		if err != nil {
			t.Fatal(err)
		}
		// The squares are the eigenvalues of W·Wᵀ. Their sum is its trace, and their product is
		// its determinant.
		rows, cols := shape[0], p.Len()/shape[0]
		if len(got) != min(rows, cols) {
			t.Fatalf("%d values of %d × %d", len(got), rows, cols)
		}
		near(t, "σ₁", got[0], svdNorm(w, rows, cols), 1e-12)
		m := mat.NewDense(rows, cols, nil)
		for i, v := range w {
			m.Set(i/cols, i%cols, float64(v))
		}
		var g mat.Dense
		if g.Mul(m, m.T()); cols < rows {
			g.Reset()
			g.Mul(m.T(), m)
		}
		sum, prod := 0.0, 1.0
		for _, v := range got {
			sum += v * v
			prod *= v * v
		}
		near(t, "Σσ²", sum, mat.Trace(&g), 1e-12)
		near(t, "Πσ²", prod, mat.Det(&g), 1e-9)
	}
	p := autograd.NewParam(2, 2)
	p.Name = "fc.weight"
	p.Import([]float32{1, 2, float32(math.NaN()), 4})
	_, err := lipschitz.SingularValues(p)
	wantError(t, err, "fc.weight", "row 1, column 0", "NaN")
}
