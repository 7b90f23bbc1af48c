package lipschitz

import (
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/org/snnrat/autograd"
)

// SingularValues returns the singular values of the weight p, largest first: of the
// matrix C_out × C_in, or C_out × C_in·k·k if it is a convolution's. There are as
// many as the smaller extent. It takes about 4·m·n² multiplications, n being that.
//
// It returns an error if p holds a value that is not finite or if the iteration does
// not converge. It panics if p is a vector.
func SingularValues(p *autograd.Param) ([]float64, error) {
	w, rows, cols := Matrix(p)
	if err := check("SingularValues", w, rows, cols); err != nil {
		return nil, fmt.Errorf("%w (%s)", err, p.Name)
	}
	m := mat.NewDense(rows, cols, nil)
	for i, v := range w {
		m.Set(i/cols, i%cols, float64(v))
	}
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDNone) {
		return nil, fmt.Errorf("lipschitz: SingularValues: the singular value decomposition of %s%v did not converge", p.Name, p.Shape)
	}
	return svd.Values(nil), nil
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
