package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// AWP is adversarial weight perturbation (Wu, Xia, Wang: Adversarial Weight Perturbation
// Helps Robust Generalization, NeurIPS 2020). A step of the training moves every weight
// tensor W in the direction in which the loss of the batch rises, and takes the gradient
// there. It then moves back for the update:
//
//	V = Gamma·‖W‖·∂L/∂W(W) / ‖∂L/∂W(W)‖,  W ← W − lr·∂L/∂W(W + V)
//
// Norms are L2 norms of one tensor. Vectors, such as those of batch norm, do not move. V is
// one step of gradient ascent, as in the authors' code. The pass that finds V does not change
// the running statistics of batch norm. A step costs about twice that of [OneUpdate].
type AWP struct {
	Gamma  float64 // γ ≥ 0, the size of V relative to W, finite; the paper has 0.005 and 0.01
	Warmup int     // ordinary epochs before the first one with perturbed weights, at least 0
}

// Validate implements [Recipe].
func (r AWP) Validate(*snn.Model, snn.Dataset) error {
	switch {
	case !finite(r.Gamma) || r.Gamma < 0:
		return fmt.Errorf("AWP.Gamma is %v, want a finite number of at least 0", r.Gamma)
	case r.Warmup < 0:
		return fmt.Errorf("AWP.Warmup is %d, want at least 0", r.Warmup)
	}
	return nil
}

// Step implements [Recipe].
func (r AWP) Step(ctx context.Context, s *Step) error {
	if r.Gamma == 0 || s.Epoch < r.Warmup {
		return OneUpdate{}.Step(ctx, s)
	}
	var buffers, weights []*autograd.Param
	for _, p := range s.Model().State() {
		switch {
		case !p.Trainable:
			buffers = append(buffers, p)
		case len(p.Shape) > 1:
			weights = append(weights, p)
		}
	}
	statistics := copies(buffers)
	if _, err := s.Gradient(StepPass{X: s.X, Draw: 1}); err != nil {
		return err
	}
	putBack(buffers, statistics)
	unperturbed := copies(weights)
	for _, p := range weights {
		g := p.Grad()
		size := norm(g)
		if g == nil || size == 0 {
			continue
		}
		factor := r.Gamma * norm(p.Data()) / size
		for i, w := range p.MutableData() {
			p.Data()[i] = w + float32(factor*float64(g[i]))
		}
	}
	_, err := s.Gradient(StepPass{X: s.X})
	putBack(weights, unperturbed)
	if err != nil {
		return err
	}
	return s.Apply()
}

// copies returns copies of the values of parameters.
func copies(ps []*autograd.Param) [][]float32 {
	values := make([][]float32, len(ps))
	for i, p := range ps {
		values[i] = slices.Clone(p.Data())
	}
	return values
}

// putBack undoes changes since copies.
func putBack(ps []*autograd.Param, values [][]float32) {
	for i, p := range ps {
		copy(p.MutableData(), values[i])
	}
}

// norm returns the L2 norm of v.
func norm(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}
