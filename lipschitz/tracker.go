package lipschitz

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
)

// Tracker follows the weights of a model while it is trained; it is a train.Observer.
// For every weight of two extents or more, such as features.0.weight, it measures
//
//	sigma_max/features.0.weight           ‖W·v‖₂ for the v, of length 1, of an iteration as in [SpectralNorm]
//	sigma_max_residual/features.0.weight  of that v; see [Norm]
//	gamma/features.0.weight               γ; see [Gamma]
//	defect/features.0.weight              ‖W·Wᵀ − I‖_F, if Defect is set
//
// and sigma_max_product, the product of the former over all of them.
//
// The iteration starts where the last epoch's ended, with a tenth of a pseudo-random
// vector so that it finds another singular vector that has become the largest, and
// stops at the latest after
// Power.MaxIterations products, converged or not: sigma_max is never above ‖W‖₂, but
// for rounding, and within sigma_max_residual·sigma_max of a singular value. A
// Tracker is for one model, and not for concurrent use. Marshalled as JSON, it keeps
// where iterations start, so that one that was unmarshalled goes on to the bit.
type Tracker struct {
	Power PowerIteration
	// Defect returns ‖W·Wᵀ − I‖_F of a weight, such as regularize.Defect; nil leaves it
	// out.
	Defect func(p *autograd.Param, threads int) (float64, error)

	vectors map[string][]float64 // right singular vectors, by the weight's name
}

// NewTracker returns a tracker with a tolerance of 1e-3 and 30 iterations, which take
// 240 multiplications a weight, and the given Defect, which may be nil.
func NewTracker(defect func(p *autograd.Param, threads int) (float64, error)) *Tracker {
	return &Tracker{Power: PowerIteration{Tol: 1e-3, MaxIterations: 30}, Defect: defect}
}

// Observe measures m. It returns an error if a weight holds a value that is not
// finite, if a field of Power is out of its range, if Defect does, or ctx.Err(), and
// then starts next time where it would have now.
func (t *Tracker) Observe(ctx context.Context, m *snn.Model, _ int) (map[string]float64, error) {
	if err := t.Power.validate("Tracker"); err != nil {
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
			norms[i], gammas[i], errs[i] = t.follow(weights[i])
		}
	})
	observed, vectors, product := map[string]float64{}, map[string][]float64{}, 1.0
	for i, p := range weights {
		if errs[i] != nil {
			return nil, errs[i]
		}
		observed["sigma_max/"+p.Name], observed["sigma_max_residual/"+p.Name] = norms[i].Sigma, norms[i].Residual
		observed["gamma/"+p.Name] = gammas[i]
		product *= norms[i].Sigma
		vectors[p.Name] = norms[i].Vector
		if t.Defect != nil {
			d, err := t.Defect(p, m.Threads)
			if err != nil {
				return nil, err
			}
			observed["defect/"+p.Name] = d
		}
	}
	observed["sigma_max_product"] = product
	t.vectors = vectors
	return observed, nil
}

// follow returns the norm and γ of a weight.
func (t *Tracker) follow(p *autograd.Param) (Norm, float64, error) {
	w, rows, cols := Matrix(p)
	gamma, err := Gamma(w, rows, cols)
	if err != nil {
		return Norm{}, 0, fmt.Errorf("%w (%s)", err, p.Name)
	}
	v := start(rows, cols)
	if last := t.vectors[p.Name]; len(last) == cols {
		for i, x := range last {
			v.Data[i] = x + v.Data[i]/10
		}
	}
	norm, err := iterate(w, rows, cols, v, t.Power)
	if err != nil {
		return Norm{}, 0, fmt.Errorf("%w (%s)", err, p.Name)
	}
	return norm, gamma, nil
}

// MarshalJSON implements [json.Marshaler].
func (t *Tracker) MarshalJSON() ([]byte, error) { return json.Marshal(t.vectors) }

// UnmarshalJSON implements [json.Unmarshaler]. It returns an error if b is not what
// MarshalJSON returned.
func (t *Tracker) UnmarshalJSON(b []byte) error {
	var vectors map[string][]float64
	if err := json.Unmarshal(b, &vectors); err != nil {
		return fmt.Errorf("lipschitz: Tracker: %w", err)
	}
	for name, v := range vectors {
		if n := squares(v); !(math.Abs(n-1) < 1e-6) {
			return fmt.Errorf("lipschitz: Tracker: the vector of %s has a squared length of %v; expected 1", name, n)
		}
	}
	t.vectors = vectors
	return nil
}
