package regularize

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/idle"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Orthogonal is the projection W ← W − β·(W·Wᵀ·W − W), Eq. 20 of Ding et al. 2022.
type Orthogonal struct {
	// Beta is the step β, finite and at least 0. A step of 0 changes nothing.
	Beta float32
	// RowShare, in (0, 1], is the share of rows that a step projects in a linear layer of
	// MinRows rows or more. ⌊RowShare·rows⌋ rows, but at least one, are drawn without
	// replacement and projected as a matrix of their own. 1 projects all rows. Two rows
	// move towards orthogonality only in steps that draw both, about RowShare² of all
	// steps.
	RowShare float32
	// MinRows, at least 0, is the smallest number of rows to which RowShare applies.
	// Smaller layers and convolutions are projected whole.
	MinRows int
}

// ForVGG returns the paper's projection for VGG-11 and networks like it: β = 0.001 on
// whole matrices (Ding et al. 2022, Sec. 5). The authors' code projects 30 % of the rows
// of a linear layer of 200 rows or more; a RowShare of 0.3 does the same.
func ForVGG() Orthogonal { return Orthogonal{Beta: 0.001, RowShare: 1, MinRows: 200} }

// ForWRN returns the paper's projection for WRN-16 and networks like it: β = 0.004, and
// otherwise the settings of [ForVGG].
func ForWRN() Orthogonal { return Orthogonal{Beta: 0.004, RowShare: 1, MinRows: 200} }

// Validate returns an error that names the first field out of its range.
func (o Orthogonal) Validate() error {
	switch {
	case !(o.Beta >= 0) || math.IsInf(float64(o.Beta), 0):
		return fmt.Errorf("regularize: Orthogonal.Beta is %v; expected a finite number of at least 0", o.Beta)
	case !(o.RowShare > 0 && o.RowShare <= 1):
		return fmt.Errorf("regularize: Orthogonal.RowShare is %v; expected a number in (0, 1]", o.RowShare)
	case o.MinRows < 0:
		return fmt.Errorf("regularize: Orthogonal.MinRows is %d; expected at least 0", o.MinRows)
	}
	return nil
}

// Apply projects the weight p once. It uses at most threads goroutines, or GOMAXPROCS if
// threads is not positive. The result does not depend on threads. Where RowShare applies,
// the rows are drawn from key, so give every step and parameter a key of its own.
//
// Apply returns an error, and does not change p, if a field of o is out of range or if the
// weights are not finite. It also does so if the weights are so large that the projected
// weights might not be finite. It panics if p is a vector.
func (o Orthogonal) Apply(p *autograd.Param, key rng.Key, threads int) error {
	if err := o.Validate(); err != nil {
		return err
	}
	w, rows, cols := matrix("Apply", p)
	tmp := kept.Swap(nil)
	if tmp == nil {
		tmp = new(workspace)
	}
	defer kept.Store(tmp)
	defer tmp.giveBack()
	var picked []int // nil for all
	if len(p.Shape) == 2 && rows >= o.MinRows && o.RowShare < 1 {
		picked = tmp.draw(key, rows, max(1, int(o.RowShare*float32(rows))))
		rows = len(picked)
	}
	n := blocks(rows)
	inStrip, inSums := kernel.ProjectScratch(n, cols)
	strip := tmp.floats(&tmp.strip, inStrip)
	g := tmp.floats(&tmp.gram, n*n*tensor.Lanes*tensor.Lanes)
	sums := tmp.floats(&tmp.sums, max(inSums, kernel.GramScratch(n, cols)))
	if picked != nil {
		all := w
		w = tmp.floats(&tmp.rows, n*cols*tensor.Lanes)
		gather(w, all, picked, cols, threads)
	}
	kernel.Gram(g, w, sums, n, cols, threads)
	if err := o.bounded(p, g, n); err != nil {
		return err
	}
	if picked == nil {
		w = p.MutableData()
	}
	kernel.Project(w, g, o.Beta, strip, sums, n, cols, threads)
	if picked != nil {
		scatter(p.MutableData(), w, picked, cols, threads)
	}
	return nil
}

// bounded returns an error if the projection of a matrix with the Gram matrix g of n
// blocks might overflow. The largest element d of g lies on its diagonal. A weight is at
// most √d, and with R rows an element of G·W is at most R·d·√d. Each time that
// Strassen's algorithm splits a product, its sums on the way are up to 9 times as large. 2²⁰ is
// enough for six times.
func (o Orthogonal) bounded(p *autograd.Param, g []float32, n int) error {
	d := 0.0
	for r := range n * tensor.Lanes {
		d = math.Max(d, float64(g[(r/tensor.Lanes*n*tensor.Lanes+r)*tensor.Lanes+r%tensor.Lanes])) // or NaN
	}
	most := math.Sqrt(d) * (1 + float64(o.Beta)) * (1 + float64(n*tensor.Lanes)*d)
	if !(most < math.MaxFloat32/(1<<20)) {
		return fmt.Errorf("regularize: Orthogonal: %s%v has a row of length %v: expected lengths whose projection is finite; with singular values beyond √(1 + 2/Beta) it diverges, Beta being %v",
			p.Name, p.Shape, math.Sqrt(d), o.Beta)
	}
	return nil
}

// workspace is the memory of a projection, as far as tapes have none for it.
type workspace struct {
	rows, strip, gram, sums []float32
	perm                    []int

	loans []*idle.Memory
	rest  [][]float32 // what is left of each loan
}

// kept is the memory of the last projection, which the next one reuses. There is one per
// process, since a sync.Pool may keep the size of the largest layer for every processor.
var kept atomic.Pointer[workspace]

// floats returns n elements of any content. They are those of a tape between passes, if there are
// so many, or else own, which grows if it must.
func (t *workspace) floats(own *[]float32, n int) []float32 {
	if n == 0 {
		return nil
	}
	i := slices.IndexFunc(t.rest, func(r []float32) bool { return len(r) >= n })
	if i < 0 {
		m := idle.Borrow(n)
		if m == nil {
			return resize(own, n)
		}
		i = len(t.rest)
		t.loans, t.rest = append(t.loans, m), append(t.rest, m.Data())
	}
	if len(*own) <= n {
		*own = nil // not needed for a layer of this size
	}
	buf := t.rest[i][:n:n]
	t.rest[i] = t.rest[i][n:]
	return buf
}

// giveBack ends the loans.
func (t *workspace) giveBack() {
	for _, m := range t.loans {
		m.Return()
	}
	clear(t.loans)
	clear(t.rest)
	t.loans, t.rest = t.loans[:0], t.rest[:0]
}

// resize makes *buf n elements long, of any content.
func resize[E any](buf *[]E, n int) []E {
	*buf = slices.Grow((*buf)[:0], n)[:n]
	return *buf
}

// FreeMemory gives back the memory that the last projection has left for the next one, W·Wᵀ
// above all. The garbage collector frees it. It may be called at any time, from any goroutine.
// Memory that the projection had from a network's passes is that of snn.Model.FreeMemory.
func FreeMemory() { kept.Store(nil) }

// draw returns n of the rows at random, in increasing order.
func (t *workspace) draw(key rng.Key, rows, n int) []int {
	p := resize(&t.perm, rows)
	for i := range p {
		p[i] = i
	}
	key.Rand().Shuffle(rows, func(i, j int) { p[i], p[j] = p[j], p[i] })
	slices.Sort(p[:n])
	return p[:n]
}

// Defect returns ‖W·Wᵀ − I‖_F of the weight p. It is 0 for orthonormal rows. With more rows
// than columns, it is at least √(rows − columns). Defect returns an error if p holds a
// value that is not finite or whose square is not finite. It panics if p is a vector.
func Defect(p *autograd.Param, threads int) (float64, error) {
	w, rows, cols := matrix("Defect", p)
	n := blocks(rows)
	g := make([]float32, n*n*tensor.Lanes*tensor.Lanes)
	kernel.Gram(g, w, make([]float32, kernel.GramScratch(n, cols)), n, cols, threads)
	var sum float64
	for i, v := range g {
		d := float64(v)
		r := i/(n*tensor.Lanes*tensor.Lanes)*tensor.Lanes + i%tensor.Lanes
		c := i / tensor.Lanes % (n * tensor.Lanes)
		if r == c && r < rows {
			d--
		}
		sum += d * d
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0, fmt.Errorf("regularize: Defect: %s%v holds a weight that is not finite, or too large to be squared", p.Name, p.Shape)
	}
	return math.Sqrt(sum), nil
}

// matrix returns p's values as a blocked matrix [⌈rows/16⌉][cols][16]. Its columns are
// those of the row-major weight in another order, with zero columns between.
func matrix(op string, p *autograd.Param) (w []float32, rows, cols int) {
	if len(p.Shape) < 2 {
		panic(fmt.Sprintf("regularize: %s: %s has shape %v; expected a weight [out, in] or [C_out, C_in, k, k]", op, p.Name, p.Shape))
	}
	w, rows = p.Data(), p.Shape[0]
	return w, rows, len(w) / (blocks(rows) * tensor.Lanes)
}

func blocks(rows int) int { return (rows + tensor.Lanes - 1) / tensor.Lanes }

// gather writes the picked rows of a blocked matrix to dst as a matrix of their own.
func gather(dst, w []float32, picked []int, cols, threads int) {
	eachRun(picked, cols, threads, func(rows []int, first, lo, hi int) {
		if len(rows) < tensor.Lanes {
			at := first * cols
			clear(dst[at+lo*tensor.Lanes : at+hi*tensor.Lanes])
		}
		for i, from := range rows {
			moveRow(dst, w, first+i, from, cols, lo, hi)
		}
	})
}

// scatter writes the rows that gather took to their places in w.
func scatter(w, src []float32, picked []int, cols, threads int) {
	eachRun(picked, cols, threads, func(rows []int, first, lo, hi int) {
		for i, to := range rows {
			moveRow(w, src, to, first+i, cols, lo, hi)
		}
	})
}

// eachRun calls fn for the picked rows, 16 at a time, and for their columns from lo to
// hi − 1. rows[0] is picked[first].
func eachRun(picked []int, cols, threads int, fn func(rows []int, first, lo, hi int)) {
	const strip = 256 // columns: 16 KB, a row's lanes lying 64 bytes apart
	strips := (cols + strip - 1) / strip
	parallel.For(threads, blocks(len(picked))*strips, func(i int) {
		first, lo := i/strips*tensor.Lanes, i%strips*strip
		fn(picked[first:min(first+tensor.Lanes, len(picked))], first, lo, min(lo+strip, cols))
	})
}

// moveRow copies the columns from lo to hi − 1 of a row.
func moveRow(dst, src []float32, to, from, cols, lo, hi int) {
	at := func(row, col int) int {
		return (row/tensor.Lanes*cols+col)*tensor.Lanes + row%tensor.Lanes
	}
	d, s := dst[at(to, lo):at(to, hi-1)+1], src[at(from, lo):at(from, hi-1)+1]
	for k := 0; k < len(d) && k < len(s); k += tensor.Lanes {
		d[k] = s[k]
	}
}
