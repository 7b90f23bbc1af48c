package regularize

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Orthogonal is the projection W ← W − β·(W·Wᵀ·W − W), Eq. 20 of Ding et al. 2022.
type Orthogonal struct {
	// Beta is the step β, finite and at least 0; 0 changes nothing.
	Beta float32
	// RowShare, in (0, 1], is the share of its rows that a linear layer of MinRows
	// rows or more has projected, as a matrix of their own; ⌊RowShare·rows⌋ of them,
	// but at least one, are drawn without replacement. 1 projects all rows at once.
	RowShare float32
	// MinRows, at least 0, is the number of rows from which on RowShare counts.
	// Smaller layers and convolutions are always projected whole.
	MinRows int
}

// DefaultOrthogonal returns β = 0.004 on whole matrices. The authors' code differs
// in that it takes 30 % of the rows of linear layers of 200 rows or more: set
// RowShare to 0.3 for that.
func DefaultOrthogonal() Orthogonal {
	return Orthogonal{Beta: 0.004, RowShare: 1, MinRows: 200}
}

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

// Apply projects the weight p once, from at most threads goroutines (GOMAXPROCS if
// threads is not positive). The result does not depend on threads. key draws the
// rows, where RowShare asks for it: give every step and parameter its own.
//
// It returns an error, and leaves p as it was, if a field of o is out of range or
// if a resulting weight would not be finite. It panics if p is a vector.
func (o Orthogonal) Apply(p *autograd.Param, key rng.Key, threads int) error {
	if err := o.Validate(); err != nil {
		return err
	}
	w, rows, cols := matrix("Apply", p)
	var picked []int // nil for all
	if len(p.Shape) == 2 && rows >= o.MinRows && o.RowShare < 1 {
		n := max(1, int(o.RowShare*float32(rows)))
		picked = key.Rand().Perm(rows)[:n]
		slices.Sort(picked) // memory order
		w, rows = gather(w, picked, cols), n
	}
	n := blocks(rows)
	g := make([]float32, n*n*tensor.Lanes*tensor.Lanes)
	kernel.Gram(g, w, n, cols, threads)
	next := make([]float32, len(w))
	kernel.MatMul(next, g, w, n, n, cols, threads)
	kernel.Extrapolate(next, w, o.Beta, threads)
	if !kernel.Finite(next, threads) {
		bad := next[slices.IndexFunc(next, func(v float32) bool { return v-v != 0 })]
		return fmt.Errorf("regularize: Orthogonal: the projection of %s%v holds %v; expected finite weights, with no singular value beyond √(1 + 2/Beta), Beta being %v",
			p.Name, p.Shape, bad, o.Beta)
	}
	if picked == nil {
		copy(p.Edit(), next)
	} else {
		scatter(p.Edit(), next, picked, cols)
	}
	return nil
}

// Defect returns ‖W·Wᵀ − I‖_F of the weight p, 0 for orthonormal rows. With more
// rows than columns it is at least √(rows − columns). It returns an error if p
// holds a value that is not finite, or so large that its square is not, and panics
// if p is a vector.
func Defect(p *autograd.Param, threads int) (float64, error) {
	w, rows, cols := matrix("Defect", p)
	n := blocks(rows)
	g := make([]float32, n*n*tensor.Lanes*tensor.Lanes)
	kernel.Gram(g, w, n, cols, threads)
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

// matrix returns p's values as a blocked matrix [⌈rows/16⌉][cols][16]. Its columns
// are those of the row-major weight in another order, and zero columns.
func matrix(op string, p *autograd.Param) (w []float32, rows, cols int) {
	if len(p.Shape) < 2 {
		panic(fmt.Sprintf("regularize: %s: %s has shape %v; expected a weight [out, in] or [C_out, C_in, k, k]", op, p.Name, p.Shape))
	}
	w, rows = p.Data(), p.Shape[0]
	return w, rows, len(w) / (blocks(rows) * tensor.Lanes)
}

func blocks(rows int) int { return (rows + tensor.Lanes - 1) / tensor.Lanes }

// gather returns the picked rows of a blocked matrix as one of their own.
func gather(w []float32, picked []int, cols int) []float32 {
	dst := make([]float32, blocks(len(picked))*cols*tensor.Lanes)
	for to, from := range picked {
		moveRow(dst, w, to, from, cols)
	}
	return dst
}

// scatter puts rows that gather took back in their places.
func scatter(w, src []float32, picked []int, cols int) {
	for from, to := range picked {
		moveRow(w, src, to, from, cols)
	}
}

func moveRow(dst, src []float32, to, from, cols int) {
	d := dst[to/tensor.Lanes*cols*tensor.Lanes+to%tensor.Lanes:]
	s := src[from/tensor.Lanes*cols*tensor.Lanes+from%tensor.Lanes:]
	for k := 0; k < cols*tensor.Lanes; k += tensor.Lanes {
		d[k] = s[k]
	}
}
