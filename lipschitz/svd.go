package lipschitz

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/org/snnrat/autograd"
)

// SingularValues returns the singular values of the weight p, largest first. The weight is
// the matrix C_out × C_in, or C_out × C_in·k·k for a convolution. The number of values is the
// smaller extent n.
//
// The values are the square roots of the eigenvalues of the smaller Gram matrix. The error
// of an eigenvalue is about 1e-16 of the sum of all. Hence rounding dominates a singular
// value below 1e-7 of the largest one. The cost is about n²·(m/2 + 4·n/3) multiplications,
// where m is the larger extent.
//
// SingularValues returns an error if p holds a value that is not finite, or if the
// eigenvalue iteration fails. It panics if p is a vector.
func SingularValues(p *autograd.Param) ([]float64, error) {
	w, rows, cols := Matrix(p)
	if err := check("SingularValues", w, rows, cols); err != nil {
		return nil, fmt.Errorf("%w (%s)", err, p.Name)
	}
	g := newGram(w, rows, cols, rows <= cols)
	values := make([]float64, g.n)
	if g.trace == 0 {
		return values, nil
	}
	eigenvalues, _, ok := eigenSym(mat.NewSymDense(g.n, g.g), false)
	if !ok {
		return nil, fmt.Errorf("lipschitz: SingularValues: the eigenvalues of %s%v were not found", p.Name, p.Shape)
	}
	for i, v := range eigenvalues {
		values[i] = math.Sqrt(max(0, v))
	}
	return values, nil
}

// Matrix returns the weight p as the row-major matrix that the functions of this package
// take: C_out × C_in, or C_out × C_in·k·k for a convolution. It panics if p is a vector.
func Matrix(p *autograd.Param) (w []float32, rows, cols int) {
	if len(p.Shape) < 2 {
		panic(fmt.Sprintf("lipschitz: Matrix: %s%v is a vector", p.Name, p.Shape))
	}
	return p.Export(), p.Shape[0], p.Len() / p.Shape[0]
}
