package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// blockMatrix lays a matrix out in blocks of 16 rows.
func blockMatrix(m mat.Matrix) []float32 {
	rows, cols := m.Dims()
	out := make([]float32, blocks(rows)*cols*Lanes)
	for r := range rows {
		for c := range cols {
			out[(r/Lanes*cols+c)*Lanes+r%Lanes] = float32(m.At(r, c))
		}
	}
	return out
}

func randomMatrix(rows, cols int) *mat.Dense {
	r := rand.New(rand.NewPCG(uint64(rows), uint64(cols)))
	m := mat.NewDense(rows, cols, nil)
	m.Apply(func(_, _ int, _ float64) float64 { return float64(float32(r.NormFloat64())) }, m)
	return m
}

// guarded returns n floats between bands of sentinels, and a check that the bands are
// untouched and that every one of the n was written.
func guarded(t *testing.T, n int) (buf []float32, check func()) {
	t.Helper()
	const sentinel = -12345.5
	b := slices.Repeat([]float32{sentinel}, band+n+Lanes)
	mid := b[band:][:n:n]
	return mid, func() {
		t.Helper()
		other := func(v float32) bool { return v != sentinel }
		if slices.Contains(mid, sentinel) || slices.ContainsFunc(b[:band], other) || slices.ContainsFunc(b[band+n:], other) {
			t.Error("wrote beside the destination or left a part of it")
		}
	}
}

func near(t *testing.T, got, want []float32, tol float64) {
	t.Helper()
	for i, v := range got {
		if d := math.Abs(float64(v - want[i])); !(d <= tol) {
			t.Fatalf("value %d is %v, want %v (difference %.2g, allowed %.2g)", i, v, want[i], d, tol)
		}
	}
}

// tolerance bounds the rounding of a sum of n products of standard normal
// values: n roundings of a partial sum of about √n.
func tolerance(n int) float64 { return 0x1p-22 * float64(n) * (1 + math.Sqrt(float64(n))) }

func TestGram(t *testing.T) {
	for _, rows := range []int{1, 2, 15, 16, 17, 48, 70} {
		for _, cols := range []int{1, 3, 16, 65, 130} {
			t.Run(fmt.Sprintf("%dx%d", rows, cols), func(t *testing.T) {
				w := randomMatrix(rows, cols)
				var want mat.Dense
				want.Mul(w, w.T())
				n := blocks(rows)
				padded := mat.NewDense(n*Lanes, n*Lanes, nil)
				padded.Slice(0, rows, 0, rows).(*mat.Dense).Copy(&want)

				got, check := guarded(t, n*n*Lanes*Lanes)
				Gram(got, blockMatrix(w), make([]float32, GramScratch(n, cols)), n, cols, 1)
				check()
				near(t, got, blockMatrix(padded), tolerance(cols))

				for r := range n * Lanes {
					for c := range n * Lanes {
						if got[(r/Lanes*n*Lanes+c)*Lanes+r%Lanes] != got[(c/Lanes*n*Lanes+r)*Lanes+c%Lanes] {
							t.Fatalf("not symmetric at %d, %d", r, c)
						}
					}
				}
				again := make([]float32, len(got))
				Gram(again, blockMatrix(w), make([]float32, GramScratch(n, cols)), n, cols, 3)
				if !slices.Equal(got, again) {
					t.Error("differs with the number of threads")
				}
			})
		}
	}
}

func TestMatMul(t *testing.T) {
	for _, rows := range []int{1, 16, 17, 48} {
		for _, inner := range []int{1, 16, 33} {
			for _, cols := range []int{1, 63, 64, 65, 130} {
				t.Run(fmt.Sprintf("%dx%dx%d", rows, inner, cols), func(t *testing.T) {
					a, b := randomMatrix(rows, inner), randomMatrix(inner, cols)
					var want mat.Dense
					want.Mul(a, b)
					padded := mat.NewDense(rows, blocks(inner)*Lanes, nil)
					padded.Slice(0, rows, 0, inner).(*mat.Dense).Copy(a)

					got, check := guarded(t, blocks(rows)*cols*Lanes)
					MatMul(got, blockMatrix(padded), blockMatrix(b), blocks(rows), blocks(inner), cols, 1)
					check()
					near(t, got, blockMatrix(&want), tolerance(inner))

					again := make([]float32, len(got))
					MatMul(again, blockMatrix(padded), blockMatrix(b), blocks(rows), blocks(inner), cols, 3)
					if !slices.Equal(got, again) {
						t.Error("differs with the number of threads")
					}
				})
			}
		}
	}
}

// Project is MatMul and a step, to the bit, at every level and number of threads, and
// writes nothing beside the weights.
func TestProject(t *testing.T) {
	start := CurrentLevel()
	defer SetLevel(start)
	for _, l := range Levels() {
		if err := SetLevel(l); err != nil {
			t.Fatal(err)
		}
		for _, s := range [][2]int{{1, 1}, {16, 16}, {17, 130}, {40, 129}, {200, 64}, {300, 300}} {
			rows, cols := s[0], s[1]
			n := blocks(rows)
			old := blockMatrix(randomMatrix(rows, cols))
			g := make([]float32, n*n*Lanes*Lanes)
			Gram(g, old, make([]float32, GramScratch(n, cols)), n, cols, 1)
			want := make([]float32, len(old))
			MatMul(want, g, old, n, n, cols, 1)
			for i, v := range old {
				want[i] = v + float32(0.3*(v-want[i]))
			}
			for _, threads := range []int{1, 3} {
				w, check := guarded(t, len(old))
				copy(w, old)
				strip, sums := ProjectScratch(n, cols)
				Project(w, g, 0.3, make([]float32, strip), make([]float32, sums), n, cols, threads)
				check()
				if !slices.Equal(w, want) {
					t.Errorf("%v, %d×%d, %d threads: not what MatMul and a step give", l, rows, cols, threads)
				}
			}
		}
	}
}

// A NaN or Inf in a weight is never lost: it spreads to its rows.
func TestGramPropagatesNaN(t *testing.T) {
	w := make([]float32, 2*5*Lanes)
	w[(1*5+2)*Lanes+3] = float32(math.NaN()) // row 19
	g := make([]float32, 4*Lanes*Lanes)
	Gram(g, w, make([]float32, GramScratch(2, 5)), 2, 5, 1)
	for c := range 2 * Lanes {
		if v := g[(1*2*Lanes+c)*Lanes+3]; !math.IsNaN(float64(v)) {
			t.Fatalf("row 19, column %d of the product is %v, want NaN", c, v)
		}
	}
}

// Every element is its products added one after the other, at the vector levels without
// rounding them first: to the bit, NaNs and infinities included.
func TestProductOrder(t *testing.T) {
	sizes := [][2]int{{20, kSlice - 1}, {33, kSlice + 1}, {130, 2*kSlice + 77}, {300, 16}, {300, 40}}
	for i := 1; i <= 130; i++ {
		sizes = append(sizes, [2]int{i * 59 % 131, i}) // every number once, both ways
	}
	for _, s := range sizes {
		rows, cols := s[0], s[1]
		for _, special := range []bool{false, true} {
			n := blocks(rows)
			w, a := blockMatrix(randomMatrix(rows, cols)), blockMatrix(randomMatrix(n*Lanes, n*Lanes))
			if special {
				w[len(w)/3], w[len(w)/2], w[len(w)/5] = float32(math.Inf(1)), float32(math.NaN()), 0
			}
			wAt := func(row, col int) float32 { return w[(row/Lanes*cols+col)*Lanes+row%Lanes] }
			for _, l := range Levels() {
				add := fma
				if l == Portable {
					add = func(x, y, z float32) float32 { return z + float32(x*y) }
				}
				gram, product := make([]float32, n*n*Lanes*Lanes), make([]float32, len(w))
				for i := range n * Lanes {
					for j := range n * Lanes {
						g := &gram[(i/Lanes*n*Lanes+j)*Lanes+i%Lanes]
						for k := range cols {
							*g = add(wAt(j, k), wAt(i, k), *g)
						}
					}
					for c := range cols {
						p := &product[(i/Lanes*cols+c)*Lanes+i%Lanes]
						for k := range n * Lanes {
							*p = add(a[(i/Lanes*n*Lanes+k)*Lanes+i%Lanes], wAt(k, c), *p)
						}
					}
				}
				at(t, l, func() {
					g, check := guarded(t, len(gram))
					Gram(g, w, make([]float32, GramScratch(n, cols)), n, cols, 2)
					check()
					equalBits(t, "Gram at "+l.String(), g, gram)
					p, check := guarded(t, len(product))
					MatMul(p, a, w, n, n, cols, 2)
					check()
					equalBits(t, "MatMul at "+l.String(), p, product)
				})
			}
		}
	}
}

// The products of a projection, at the shapes of the paper's VGG-11.
func BenchmarkProduct(b *testing.B) {
	for _, s := range []struct{ rows, cols int }{{64, 144}, {64, 576}, {256, 2304}, {512, 4608}, {1232, 4096}, {4096, 8192}} {
		w := blockMatrix(randomMatrix(s.rows, s.cols))
		n := s.rows / Lanes
		g, d := make([]float32, s.rows*s.rows), make([]float32, len(w))
		for _, threads := range []int{1, 2} {
			run := func(name string, fn func()) {
				b.Run(fmt.Sprintf("%s/%dx%d/threads=%d", name, s.rows, s.cols, threads), func(b *testing.B) {
					for b.Loop() {
						fn()
					}
					b.StopTimer()
					rate := 2 * float64(s.rows*s.rows) * float64(s.cols) * float64(b.N) / b.Elapsed().Seconds() / 1e9
					peak := peakGflops(threads)
					b.ReportMetric(rate, "GFLOP/s") // of the whole product, whatever symmetry saves
					b.ReportMetric(peak, "peak-GFLOP/s")
					b.ReportMetric(rate/peak, "of-peak")
				})
			}
			scratch := make([]float32, GramScratch(n, s.cols))
			run("gram", func() { Gram(g, w, scratch, n, s.cols, threads) })
			run("matmul", func() { MatMul(d, g, w, n, n, s.cols, threads) })
		}
	}
}
