package lipschitz

import (
	"context"
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
)

// Tracker follows the weights of a model while it is trained; it is a train.Monitor.
// For every weight of two extents or more, such as features.0.weight, it measures
//
//	sigma_max/features.0.weight           ‖W·v‖₂ for the v, of length 1, of an iteration as in [Lanczos]
//	sigma_max_residual/features.0.weight  of that v; see [Norm]
//	gamma/features.0.weight               γ; see [Gamma]
//	defect/features.0.weight              ‖W·Wᵀ − I‖_F, if Defect is set
//
// and sigma_max_product, the product of the former over all of them.
//
// An iteration stops at the latest after Lanczos.MaxIterations, converged or not: sigma_max
// is never above ‖W‖₂, but for rounding, and within sigma_max_residual·sigma_max of a
// singular value.
type Tracker struct {
	Lanczos Lanczos
	// Defect returns ‖W·Wᵀ − I‖_F of a weight, such as regularize.Defect; nil leaves it
	// out.
	Defect func(p *autograd.Param, threads int) (float64, error)
}

// NewTracker returns a tracker with a tolerance of 1e-3 and 30 iterations, which take
// 122 multiplications a weight, and the given Defect, which may be nil.
func NewTracker(defect func(p *autograd.Param, threads int) (float64, error)) *Tracker {
	return &Tracker{Lanczos: Lanczos{Tol: 1e-3, MaxIterations: 30}, Defect: defect}
}

// Measure measures m. It returns an error if a weight holds a value that is not
// finite, if a field of Lanczos is out of its range, if Defect does, or ctx.Err().
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
