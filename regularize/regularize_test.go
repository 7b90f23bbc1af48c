package regularize_test

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

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/idle"
	"github.com/org/snnrat/internal/race"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

var key = rng.New(1)

func param(v []float32, shape ...int) *autograd.Param {
	p := autograd.NewParam(shape...)
	p.Name = "features.0.weight"
	p.Import(v)
	return p
}

func random(std float64, seed uint64, shape ...int) *autograd.Param {
	p := autograd.NewParam(shape...)
	r := rand.New(rand.NewPCG(seed, 0))
	v := make([]float32, p.Len())
	for i := range v {
		v[i] = float32(std * r.NormFloat64())
	}
	return param(v, shape...)
}

// dense returns the weight as rows × the rest, in float64.
func dense(p *autograd.Param) *mat.Dense {
	v := p.Export()
	m := mat.NewDense(p.Shape[0], len(v)/p.Shape[0], nil)
	for i, x := range v {
		m.Set(i/m.RawMatrix().Cols, i%m.RawMatrix().Cols, float64(x))
	}
	return m
}

// project is Eq. 20 in float64.
func project(w *mat.Dense, beta float64) {
	var p mat.Dense
	p.Product(w, w.T(), w)
	p.Sub(&p, w)
	p.Scale(beta, &p)
	w.Sub(w, &p)
}

func singularValues(w mat.Matrix) []float64 {
	var svd mat.SVD
	if !svd.Factorize(w, mat.SVDNone) {
		panic("SVD failed")
	}
	return svd.Values(nil)
}

// near compares to tol of the largest magnitude.
func near(t rapid.TB, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	var top float64
	for _, v := range want {
		top = max(top, math.Abs(float64(v)))
	}
	for i, v := range got {
		if d := math.Abs(float64(v - want[i])); !(d <= tol*top) {
			t.Fatalf("value %d is %v, want %v", i, v, want[i])
		}
	}
}

func float32s(m *mat.Dense) []float32 {
	var out []float32
	for _, v := range m.RawMatrix().Data {
		out = append(out, float32(v))
	}
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestGolden(t *testing.T) {
	f := must(golden.Read("testdata/regularize.safetensors"))
	apply := func(p *autograd.Param, beta float64, steps int) []float32 {
		o := regularize.ForWRN()
		o.Beta = float32(beta)
		for range steps {
			if err := o.Apply(p, key, 2); err != nil {
				t.Fatal(err)
			}
		}
		return p.Export()
	}
	for _, kind := range []string{"linear", "conv"} {
		w := f.Tensors[kind+".w"]
		want := f.Tensors[kind+".after"].Floats
		near(t, apply(param(w.Floats, w.Shape...), must(f.Number("beta_"+kind)), 1), want, 1e-6)
	}
	w := f.Tensors["linear.w"]
	want := f.Tensors["linear.after_2000_steps_beta_0.05"].Floats
	near(t, apply(param(w.Floats, w.Shape...), 0.05, 2000), want, 1e-4)

	v := f.Tensors["simplex.in"].Floats
	want = f.Tensors["simplex.out"].Floats
	if err := regularize.Simplex(v); err != nil {
		t.Fatal(err)
	}
	near(t, v, want, 1e-6)
}

func TestOrthogonalAgainstFloat64(t *testing.T) {
	for _, shape := range [][]int{{1, 1}, {10, 3}, {16, 16}, {33, 70}, {5, 3, 1, 1}, {20, 17, 3, 3}, {3, 2, 5, 3}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			p := random(0.2, 1, shape...)
			w := dense(p)
			project(w, 0.03)
			if err := (regularize.Orthogonal{Beta: 0.03, RowShare: 1}).Apply(p, key, 0); err != nil {
				t.Fatal(err)
			}
			near(t, p.Export(), float32s(w), 1e-6)

			// Padding stays zero.
			again := autograd.NewParam(shape...)
			again.Import(p.Export())
			if !slices.Equal(again.Data(), p.Data()) {
				t.Error("padding is not zero")
			}
		})
	}
}

// With RowShare, and from MinRows rows on, the picked rows are projected as a matrix of
// their own and the others stay to the bit.
func TestRowShare(t *testing.T) {
	o := regularize.Orthogonal{Beta: 0.1, RowShare: 0.3, MinRows: 205}
	if err := o.Apply(random(0.1, 9, 300, 200), key, 0); err != nil { // leaves values in kept memory
		t.Fatal(err)
	}
	p := random(0.1, 2, 205, 40)
	before, want := dense(p), dense(p)
	if err := o.Apply(p, key, 0); err != nil {
		t.Fatal(err)
	}
	after := dense(p)
	var picked []int
	for r := range 205 {
		if !slices.Equal(before.RawRowView(r), after.RawRowView(r)) {
			picked = append(picked, r)
		}
	}
	if len(picked) != 61 { // ⌊0.3·205⌋
		t.Fatalf("%d rows changed, want 61", len(picked))
	}
	sub := mat.NewDense(len(picked), 40, nil)
	for i, r := range picked {
		sub.SetRow(i, before.RawRowView(r))
	}
	project(sub, 0.1)
	for i, r := range picked {
		want.SetRow(r, sub.RawRowView(i))
	}
	near(t, p.Export(), float32s(want), 1e-6)

	other := random(0.1, 2, 205, 40)
	if err := o.Apply(other, rng.New(2), 0); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(other.Data(), p.Data()) {
		t.Error("another key drew the same rows")
	}

	// Small linear layers and all convolutions are projected whole.
	for _, shape := range [][]int{{204, 7}, {205, 3, 2, 2}} {
		a, b := random(0.1, 3, shape...), random(0.1, 3, shape...)
		if err := o.Apply(a, key, 0); err != nil {
			t.Fatal(err)
		}
		if err := (regularize.Orthogonal{Beta: 0.1, RowShare: 1}).Apply(b, key, 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Data(), b.Data()) {
			t.Errorf("%v: only some rows were projected", shape)
		}
	}
}

func TestRowShareDrawsEveryRowEquallyOften(t *testing.T) {
	const rows, draws = 20, 2000
	o := regularize.Orthogonal{Beta: 0.5, RowShare: 0.25}
	var count [rows]int
	for i := range draws {
		p := random(1, 1, rows, 1)
		before := p.Export()
		if err := o.Apply(p, key.Derive("step", uint64(i)), 1); err != nil {
			t.Fatal(err)
		}
		for r, v := range p.Export() {
			if v != before[r] {
				count[r]++
			}
		}
	}
	for r, n := range count { // mean 500, standard deviation 19
		if n < 400 || n > 600 {
			t.Errorf("row %d was drawn %d times of %d, want about %d", r, n, draws, draws/4)
		}
	}
}

// Eq. 20 maps each singular value s to s·(1+β−β·s²) and keeps the vectors; after
// many steps all are 1.
func TestSingularValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(1, 20).Draw(t, "rows")
		cols := rapid.IntRange(rows, 40).Draw(t, "cols")
		beta := rapid.Float64Range(0.05, 0.5).Draw(t, "beta")
		p := random(0.5/math.Sqrt(float64(cols)), rapid.Uint64().Draw(t, "seed"), rows, cols)
		o := regularize.Orthogonal{Beta: float32(beta), RowShare: 1}

		want := singularValues(dense(p))
		for i, s := range want {
			want[i] = s * (1 + beta - beta*s*s)
		}
		slices.SortFunc(want, func(a, b float64) int { return int(math.Copysign(1, b-a)) })
		if err := o.Apply(p, key, 1); err != nil {
			t.Fatal(err)
		}
		for i, s := range singularValues(dense(p)) {
			if math.Abs(s-want[i]) > 1e-5 {
				t.Fatalf("after a step, singular value %d is %v, want %v", i, s, want[i])
			}
		}

		if want[rows-1] < 1e-3 {
			return // takes too many steps to grow
		}
		for range int(12/beta) + int(math.Log(1/want[rows-1])/math.Log1p(beta)*2) {
			if err := o.Apply(p, key, 1); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range singularValues(dense(p)) {
			if math.Abs(s-1) > 1e-4 {
				t.Fatalf("after many steps, singular value %d is %v, want 1", i, s)
			}
		}
		d, err := regularize.Defect(p, 1)
		if err != nil || d > 1e-3 {
			t.Fatalf("Defect = %v, %v; want about 0", d, err)
		}
	})
}

func TestDefect(t *testing.T) {
	for _, shape := range [][]int{{1, 1}, {17, 5}, {20, 33}, {6, 4, 3, 3}} {
		p := random(0.3, 5, shape...)
		w := dense(p)
		var g mat.Dense
		g.Mul(w, w.T())
		for i := range shape[0] {
			g.Set(i, i, g.At(i, i)-1)
		}
		want := mat.Norm(&g, 2) // Frobenius
		got, err := regularize.Defect(p, 2)
		if err != nil || math.Abs(got-want) > 1e-5*want {
			t.Errorf("%v: Defect = %v, %v; want %v", shape, got, err, want)
		}
	}
}

func TestSameBitsAtAnyThreads(t *testing.T) {
	for _, shape := range [][]int{{205, 40}, {40, 20, 3, 3}} {
		var first []float32
		for _, procs := range []int{1, 2, 2} {
			func() {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				p := random(0.1, 2, shape...)
				o := regularize.Orthogonal{Beta: 0.1, RowShare: 0.3, MinRows: 200}
				if err := o.Apply(p, key, 0); err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = p.Export()
				} else if !slices.Equal(first, p.Export()) {
					t.Errorf("%v: result differs at GOMAXPROCS %d", shape, procs)
				}
			}()
		}
	}
}

func TestErrors(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	one := regularize.Orthogonal{Beta: 0.1, RowShare: 1}
	for _, c := range []struct {
		name string
		o    regularize.Orthogonal
		w    float32
		says string
	}{
		{"negative beta", regularize.Orthogonal{Beta: -0.1, RowShare: 1}, 1, "Beta is -0.1"},
		{"NaN beta", regularize.Orthogonal{Beta: nan, RowShare: 1}, 1, "Beta is NaN"},
		{"infinite beta", regularize.Orthogonal{Beta: inf, RowShare: 1}, 1, "Beta is +Inf"},
		{"share 0", regularize.Orthogonal{Beta: 1}, 1, "RowShare is 0"},
		{"share above 1", regularize.Orthogonal{Beta: 1, RowShare: 1.5}, 1, "RowShare is 1.5"},
		{"NaN share", regularize.Orthogonal{Beta: 1, RowShare: nan}, 1, "RowShare is NaN"},
		{"negative rows", regularize.Orthogonal{Beta: 1, RowShare: 1, MinRows: -1}, 1, "MinRows is -1"},
		{"NaN weight", one, nan, "features.0.weight[20 3] has a row of length"},
		{"infinite weight", one, inf, "features.0.weight[20 3] has a row of length"},
		{"overflow of the last product", one, 1e13, "features.0.weight[20 3] has a row of length"},
		{"overflow of the first", one, 1e30, "features.0.weight[20 3] has a row of length"},
		{"NaN weight among picked rows", regularize.Orthogonal{Beta: 0.1, RowShare: 0.95}, nan, "features.0.weight[20 3] has a row of length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := make([]float32, 60)
			v[17*3+1] = c.w
			p := param(v, 20, 3)
			before, version := slices.Clone(p.Data()), p.Version()
			err := c.o.Apply(p, key, 1)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one that says %q", err, c.says)
			}
			if p.Version() != version || fmt.Sprint(p.Data()) != fmt.Sprint(before) {
				t.Error("the parameter was changed")
			}
			if c.w < 1e30 { // its square is finite
				return
			}
			if d, err := regularize.Defect(p, 1); err == nil || !strings.Contains(err.Error(), p.Name) {
				t.Errorf("Defect = %v, %v; want an error that names the parameter", d, err)
			}
		})
	}
	if err := regularize.ForWRN().Validate(); err != nil {
		t.Error(err)
	}
}

func TestApplyPanicsOnVector(t *testing.T) {
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "[7]") {
			t.Errorf("panic %q, want one that names the shape", s)
		}
	}()
	_ = regularize.ForWRN().Apply(random(1, 1, 7), key, 1)
}

func TestSimplex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float32Range(-3, 3), 1, 12).Draw(t, "v")
		x := slices.Clone(v)
		if err := regularize.Simplex(x); err != nil {
			t.Fatal(err)
		}
		distance := func(to []float64) (d float64) {
			for i, y := range to {
				d += (float64(v[i]) - y) * (float64(v[i]) - y)
			}
			return d
		}
		var sum float64
		x64 := make([]float64, len(x))
		for i, y := range x {
			if y < 0 {
				t.Fatalf("negative: %v", x)
			}
			x64[i] = float64(y)
			sum += x64[i]
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Fatalf("sum of %v is %v", x, sum)
		}
		// No random point of the simplex, far or near, is closer.
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range 50 {
			y, s, step := make([]float64, len(x)), 0.0, math.Pow(10, -4*r.Float64())
			for i := range y {
				y[i] = r.ExpFloat64()
				s += y[i]
			}
			for i := range y {
				y[i] = x64[i]/sum*(1-step) + step*y[i]/s
			}
			if distance(y) < distance(x64)-1e-5 {
				t.Fatalf("%v is closer to %v than %v", y, v, x)
			}
		}
		again := slices.Clone(x)
		if err := regularize.Simplex(again); err != nil {
			t.Fatal(err)
		}
		near(t, again, x, 1e-6)
	})
}

func TestSimplexExtremes(t *testing.T) {
	for _, c := range []struct{ in, want []float32 }{
		{[]float32{7}, []float32{1}},
		{[]float32{0.25, 0.75}, []float32{0.25, 0.75}},
		{[]float32{-5, -5, -5, -5}, []float32{0.25, 0.25, 0.25, 0.25}},
		{[]float32{math.MaxFloat32, -math.MaxFloat32, math.MaxFloat32}, []float32{0.5, 0, 0.5}},
		{[]float32{1e8, 1e8, 0}, []float32{0.5, 0.5, 0}},
	} {
		got := slices.Clone(c.in)
		if err := regularize.Simplex(got); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Simplex(%v) = %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		v := []float32{0.5, float32(bad), 2}
		if err := regularize.Simplex(v); err == nil || !strings.Contains(err.Error(), "value 1") {
			t.Errorf("%v: error %v, want one that names value 1", bad, err)
		}
		if v[0] != 0.5 || v[2] != 2 {
			t.Errorf("%v: v was changed to %v", bad, v)
		}
	}
}

// A warm projection allocates nothing that grows with the weight.
func TestWarmProjectionAllocates(t *testing.T) {
	if race.Enabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	for _, share := range []float32{1, 0.3} {
		o := regularize.Orthogonal{Beta: 0.01, RowShare: share, MinRows: 1}
		p := random(0.01, 5, 300, 200)
		apply := func() {
			if err := o.Apply(p, key, 2); err != nil {
				t.Fatal(err)
			}
		}
		apply()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const steps = 20
		for range steps {
			apply()
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / steps; per > 4096 {
			t.Errorf("RowShare %v: %d bytes a step; the weight has %d", share, per, 4*p.Len())
		}
	}
}

// The projection of each of the paper's layers, on one thread and on all.
func BenchmarkOrthogonal(b *testing.B) {
	for _, c := range []struct {
		share float32
		shape []int
	}{
		{1, []int{16, 16, 3, 3}}, {1, []int{64, 64, 3, 3}}, {1, []int{128, 128, 3, 3}}, {1, []int{256, 256, 3, 3}},
		{1, []int{512, 512, 3, 3}}, {1, []int{4096, 4096}}, {0.3, []int{4096, 8192}},
	} {
		o := regularize.Orthogonal{Beta: 1e-9, RowShare: c.share, MinRows: 200}
		p := random(0.01, 6, c.shape...)
		for _, threads := range []int{1, 0} {
			b.Run(fmt.Sprintf("%v/share=%v/threads=%d", c.shape, c.share, threads), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := o.Apply(p, key, threads); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// The steps β of Ding et al. 2022, Sec. 5.
func TestPaperSettings(t *testing.T) {
	if vgg, wrn := regularize.ForVGG(), regularize.ForWRN(); vgg.Beta != 0.001 || wrn.Beta != 0.004 {
		t.Errorf("β is %v for VGG and %v for WRN, want 0.001 and 0.004", vgg.Beta, wrn.Beta)
	}
}

// live returns the number of bytes that are in use.
func live() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The memory of a projection comes back. The next projection has the same result.
func TestFreeMemory(t *testing.T) {
	project := func() []float32 {
		p := random(0.1, 9, 1024, 64)
		if err := regularize.ForVGG().Apply(p, key, 0); err != nil {
			t.Fatal(err)
		}
		return p.Export()
	}
	want := project()
	before := live()
	regularize.FreeMemory()
	const gram = 1024 * 1024 * 4
	if freed := before - live(); freed < gram*7/8 || freed > gram*9/8 {
		t.Errorf("%d bytes came back, want about %d", freed, gram)
	}
	if got := project(); !slices.Equal(got, want) {
		t.Error("the next projection differs")
	}
}

// A projection uses the memory of a tape between two passes, in place of its own. The result is the
// same.
func TestProjectionUsesIdleMemory(t *testing.T) {
	const rows = 1024 // W·Wᵀ takes 4 MB
	project := func(share float32) []float32 {
		p := random(0.1, 9, rows, 64)
		o := regularize.Orthogonal{Beta: 0.001, RowShare: share, MinRows: 1}
		if err := o.Apply(p, key, 2); err != nil {
			t.Fatal(err)
		}
		return p.Export()
	}
	want, some := project(1), project(0.9)
	regularize.FreeMemory()
	var a tensor.Arena
	a.FreeFloats(a.Floats(rows*rows + 64*rows))
	a.EndPass()
	before := live()
	if got := project(1); !slices.Equal(got, want) {
		t.Error("the projection of all rows differs")
	}
	if got := project(0.9); !slices.Equal(got, some) {
		t.Error("the projection of some rows differs")
	}
	if grown := live() - before; grown > rows*rows {
		t.Errorf("%d bytes stay, though a tape had memory for the projection", grown)
	}

	// Own memory of the size is let go once that of a tape is enough.
	loan := idle.Borrow(rows * rows)
	project(1)
	loan.Return()
	if grown := live() - before; grown < 3*rows*rows {
		t.Errorf("%d bytes stay, though a tape had none for the projection", grown)
	}
	project(1)
	if grown := live() - before; grown > rows*rows {
		t.Errorf("%d bytes stay, though a tape had memory again", grown)
	}
	runtime.KeepAlive(&a)
}
