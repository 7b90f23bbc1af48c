package lipschitz

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas/blas64"
)

// jacobi returns the eigenvalues, largest first, of the symmetric n × n matrix whose upper
// triangle a holds, with rows stride apart, and an eigenvector of length 1 for each, a row of
// vectors. It is the cyclic Jacobi iteration (Golub and Van Loan: Matrix Computations,
// section 8.5), whose errors are about 1e-16·n of the largest magnitude whatever the
// matrix; gonum's mat.EigenSym is off without limits, and its mat.SVD by hundredths, for some
// of those that fall into blocks. It takes about 40·n³ multiplications.
func jacobi(a []float64, stride, n int) (values []float64, vectors blas64.General) {
	full := matrix(n, n)
	v := matrix(n, n)
	var norm2 float64
	for i := range n {
		v.Data[i*n+i] = 1
		for j := i; j < n; j++ {
			x := a[i*stride+j]
			full.Data[i*n+j], full.Data[j*n+i] = x, x
			norm2 += x * x
		}
	}
	nothing := unit / float64(n) * math.Sqrt(norm2)                  // that much in every place is rounding
	for sweep, rotated := 0, true; rotated && sweep < 100; sweep++ { // about 8 are usual
		rotated = false
		for p := range n {
			for q := p + 1; q < n; q++ {
				x := full.Data[p*n+q]
				if math.Abs(x) <= nothing {
					continue
				}
				rotated = true
				t := 1.0 // the tangent of the smaller angle that makes x zero
				if d := full.Data[q*n+q] - full.Data[p*n+p]; d != 0 {
					tau := d / (2 * x)
					t = math.Copysign(1, tau) / (math.Abs(tau) + math.Hypot(1, tau))
				}
				c := 1 / math.Sqrt(1+t*t)
				s := t * c
				blas64.Rot(row(full, p), row(full, q), c, -s)
				blas64.Rot(column(full, p), column(full, q), c, -s)
				full.Data[p*n+q], full.Data[q*n+p] = 0, 0
				blas64.Rot(row(v, p), row(v, q), c, -s)
			}
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(full.Data[j*n+j], full.Data[i*n+i]) })
	vectors = matrix(n, n)
	for k, i := range order {
		values = append(values, full.Data[i*n+i])
		copy(row(vectors, k).Data, row(v, i).Data)
	}
	return values, vectors
}

func column(m blas64.General, i int) blas64.Vector {
	return blas64.Vector{N: m.Rows, Inc: m.Cols, Data: m.Data[i:]}
}
