package train

import (
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
)

// clip scales the gradients of all parameters by one factor, so that their common L2 norm
// is at most bound (Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural
// networks, ICML 2013). A bound of 0 leaves them as they are. It returns an error if the norm
// is not finite.
func clip(params []*autograd.Param, bound float64, threads int) error {
	if bound == 0 {
		return nil
	}
	var square float64
	for _, p := range params {
		n := norm(p.Grad())
		if !finite(n) {
			return fmt.Errorf("the gradient of %s has a value that is not a finite number", p.Name)
		}
		square += float64(n * n)
	}
	if size := math.Sqrt(square); size > bound {
		for _, p := range params {
			kernel.AXPY(p.Grad(), float32(bound/size), p.Grad(), false, threads)
		}
	}
	return nil
}
