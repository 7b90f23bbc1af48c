package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/org/snnrat/autograd"
)

// SingularValues returns the singular values of the weight p, largest first: of the
// matrix C_out × C_in, or C_out × C_in·k·k if it is a convolution's. There are as
// many as the smaller extent, n. They are the roots of the eigenvalues of the smaller Gram
// matrix, whose error is about 1e-16·n of the largest one; so those below 1e-7 of the
// largest singular value are rounding alone. It takes about n²·(m/2 + 4·n/3)
// multiplications, m being the larger extent.
//
// It returns an error if p holds a value that is not finite. It panics if p is a vector.
func SingularValues(p *autograd.Param) ([]float64, error) {
	w, rows, cols := Matrix(p)
	if err := check("SingularValues", w, rows, cols); err != nil {
		return nil, fmt.Errorf("%w (%s)", err, p.Name)
	}
	g := newGram(w, rows, cols, rows <= cols)
	values := g.eigenvalues()
	for i, v := range values {
		values[i] = math.Sqrt(max(0, v))
	}
	return values, nil
}

// eigenvalues returns them, largest first.
func (g *gram) eigenvalues() []float64 {
	// With vectors, because without them it panics for some matrices.
	var e mat.EigenSym
	if e.Factorize(mat.NewSymDense(g.n, g.g), true) {
		values := e.Values(nil)
		if math.Abs(floats.Sum(values)-g.trace) <= 1e-9*g.trace {
			slices.Reverse(values)
			return values
		}
	}
	values, _ := jacobi(g.g, g.n, g.n) // slower, and right whatever the matrix
	return values
}

// Matrix returns the weight p as the row-major matrix that the functions of this
// package take: C_out × C_in, or C_out × C_in·k·k if it is a convolution's. It
// panics if p is a vector.
func Matrix(p *autograd.Param) (w []float32, rows, cols int) {
	if len(p.Shape) < 2 {
		panic(fmt.Sprintf("lipschitz: Matrix: %s%v is a vector", p.Name, p.Shape))
	}
	return p.Export(), p.Shape[0], p.Len() / p.Shape[0]
}
