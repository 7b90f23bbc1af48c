package lipschitz

import (
	"context"
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
)

// Tracker measures the weights of a model during training. It is a train.Monitor. For every
// weight with at least two extents, such as features.0.weight, it returns
//
//	sigma_max/features.0.weight           ‖W·v‖₂ for the unit vector v of a [Lanczos] iteration
//	sigma_max_residual/features.0.weight  the residual of v, see [Norm]
//	gamma/features.0.weight               γ of [Gamma]
//	defect/features.0.weight              ‖W·Wᵀ − I‖_F, if Defect is set
//
// It also returns sigma_max_product, the product of sigma_max over all weights.
//
// An iteration stops after Lanczos.MaxIterations, even if it has not converged. Up to
// rounding, sigma_max is a lower bound of ‖W‖₂, and it is within
// sigma_max_residual·sigma_max of a singular value.
type Tracker struct {
	Lanczos Lanczos
	// Defect returns ‖W·Wᵀ − I‖_F of a weight, such as regularize.Defect. nil leaves the
	// defect out.
	Defect func(p *autograd.Param, threads int) (float64, error)
}

// NewTracker returns a tracker with the tolerance 1e-3 and at most 30 iterations, which are
// 122 multiplications for each weight value. defect becomes Defect and can be nil.
func NewTracker(defect func(p *autograd.Param, threads int) (float64, error)) *Tracker {
	return &Tracker{Lanczos: Lanczos{Tol: 1e-3, MaxIterations: 30}, Defect: defect}
}

// Measure returns the values that [Tracker] lists for the model m. It returns an error if a
// weight holds a value that is not finite, if a field of Lanczos is out of its range, or if
// Defect returns an error. It returns ctx.Err() if ctx ends.
func (t *Tracker) Measure(ctx context.Context, m *snn.Model, _ int) (map[string]float64, error) {
	if err := t.Lanczos.validate("Tracker"); err != nil {
		return nil, err
	}
	var weights []*autograd.Param
	for _, p := range m.Params() {
		if len(p.Shape) > 1 {
			weights = append(weights, p)
		}
	}
	norms, gammas, errs := make([]Norm, len(weights)), make([]float64, len(weights)), make([]error, len(weights))
	parallel.For(m.Threads, len(weights), func(i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			norms[i], gammas[i], errs[i] = t.norm(weights[i])
		}
	})
	observed, product := map[string]float64{}, 1.0
	for i, p := range weights {
		if errs[i] != nil {
			return nil, errs[i]
		}
		observed["sigma_max/"+p.Name], observed["sigma_max_residual/"+p.Name] = norms[i].Sigma, norms[i].Residual
		observed["gamma/"+p.Name] = gammas[i]
		product *= norms[i].Sigma
		if t.Defect != nil {
			d, err := t.Defect(p, m.Threads)
			if err != nil {
				return nil, err
			}
			observed["defect/"+p.Name] = d
		}
	}
	observed["sigma_max_product"] = product
	return observed, nil
}

// norm returns the norm and γ of a weight.
func (t *Tracker) norm(p *autograd.Param) (Norm, float64, error) {
	w, rows, cols := Matrix(p)
	gamma, err := Gamma(w, rows, cols)
	if err != nil {
		return Norm{}, 0, fmt.Errorf("%w (%s)", err, p.Name)
	}
	norm, _ := spectralNorm(w, rows, cols, t.Lanczos)
	return norm, gamma, nil
}
