package train

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
)

// Optimizer is an update rule for parameters, such as [SGD] and [Adam]. It is a value
// without state. An [Updater] keeps the vectors that the rule carries from one update to
// the next.
type Optimizer interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// Slots names the vectors that are kept for each parameter, each with a name of its own.
	// They start at zero.
	Slots() []string
	// Update makes update number step ≥ 1 of a parameter. w holds its values, grad its
	// gradient, and slots[i] the vector named Slots()[i]. All are whole and have the layout
	// of [autograd.Param]. Padding is zero in all of them and must stay zero, so it does
	// not count in the norms of layer-wise rules. Results must not depend on threads, the
	// bound of Update's goroutines.
	//
	// [SGD] and [Adam] themselves, whose rules are elementwise, also get large parameters
	// in parts, while the gradient is computed. An optimizer that embeds one of them gets
	// whole parameters.
	Update(w, grad []float32, slots [][]float32, lr float64, step, threads int)
}

// SGD is stochastic gradient descent with momentum as PyTorch defines it, without
// dampening. From v = 0, an update is
//
//	d = ∇w + WeightDecay·w;  v ← Momentum·v + d;  w ← w − lr·v
//
// With Nesterov, the last part is w ← w − lr·(d + Momentum·v).
type SGD struct {
	Momentum    float64 // in [0, 1); 0 for none
	WeightDecay float64 // factor of the L2 penalty ½·WeightDecay·‖w‖² of all parameters, at least 0
	Nesterov    bool    // Nesterov's momentum; needs Momentum > 0
}

// DefaultSGD returns momentum 0.9 and weight decay 5e-4. Training with REG replaces
// weight decay; see [RAT].
func DefaultSGD() SGD { return SGD{Momentum: 0.9, WeightDecay: 5e-4} }

// Validate implements [Optimizer].
func (o SGD) Validate() error {
	switch {
	case !(o.Momentum >= 0 && o.Momentum < 1):
		return fmt.Errorf("SGD.Momentum is %v, want a number in [0, 1)", o.Momentum)
	case !finite(o.WeightDecay) || o.WeightDecay < 0:
		return fmt.Errorf("SGD.WeightDecay is %v, want a finite number of at least 0", o.WeightDecay)
	case o.Nesterov && o.Momentum == 0:
		return fmt.Errorf("SGD.Nesterov is set and SGD.Momentum is 0, want momentum in (0, 1) with it")
	}
	return nil
}

// Slots implements [Optimizer].
func (o SGD) Slots() []string {
	if o.Momentum == 0 {
		return nil
	}
	return []string{"momentum"}
}

// Update implements [Optimizer].
func (o SGD) Update(w, grad []float32, slots [][]float32, lr float64, step, threads int) {
	var v []float32
	if len(slots) > 0 {
		v = slots[0]
	}
	kernel.SGD(w, grad, v, float32(lr), float32(o.Momentum), float32(o.WeightDecay), o.Nesterov, threads)
}

// Adam is adaptive moment estimation as PyTorch defines it (Kingma and Ba, ICLR 2015).
// From m = v = 0, update number t is
//
//	d = ∇w + WeightDecay·w
//	m ← Beta1·m + (1 − Beta1)·d;  v ← Beta2·v + (1 − Beta2)·d²
//	w ← w − lr·m̂/(√v̂ + Eps),  m̂ = m/(1 − Beta1ᵗ),  v̂ = v/(1 − Beta2ᵗ)
type Adam struct {
	Beta1, Beta2 float64 // in [0, 1)
	Eps          float64 // in [1e-30, 1]
	WeightDecay  float64 // factor of the L2 penalty ½·WeightDecay·‖w‖² of all parameters, at least 0
}

// DefaultAdam returns PyTorch's defaults: Beta1 0.9, Beta2 0.999, Eps 1e-8, and no weight
// decay.
func DefaultAdam() Adam { return Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8} }

// Validate implements [Optimizer].
func (o Adam) Validate() error {
	switch {
	case !(o.Beta1 >= 0 && o.Beta1 < 1):
		return fmt.Errorf("Adam.Beta1 is %v, want a number in [0, 1)", o.Beta1)
	case !(o.Beta2 >= 0 && o.Beta2 < 1):
		return fmt.Errorf("Adam.Beta2 is %v, want a number in [0, 1)", o.Beta2)
	case !(o.Eps >= 1e-30 && o.Eps <= 1):
		return fmt.Errorf("Adam.Eps is %v, want a number in [1e-30, 1]", o.Eps)
	case !finite(o.WeightDecay) || o.WeightDecay < 0:
		return fmt.Errorf("Adam.WeightDecay is %v, want a finite number of at least 0", o.WeightDecay)
	}
	return nil
}

// Slots implements [Optimizer].
func (o Adam) Slots() []string { return []string{"exp_avg", "exp_avg_sq"} }

// Update implements [Optimizer].
func (o Adam) Update(w, grad []float32, slots [][]float32, lr float64, step, threads int) {
	t := float64(step)
	kernel.Adam(w, grad, slots[0], slots[1], kernel.AdamStep{
		Beta1: float32(o.Beta1), Beta2: float32(o.Beta2),
		Rest1: float32(1 - o.Beta1), Rest2: float32(1 - o.Beta2),
		Size:       float32(lr / (1 - math.Pow(o.Beta1, t))),
		Correction: float32(math.Sqrt(1 - math.Pow(o.Beta2, t))),
		Eps:        float32(o.Eps), Decay: float32(o.WeightDecay),
	}, threads)
}

// Updater applies an optimizer to parameters and keeps the optimizer's vectors. A [Trainer]
// has one. A training loop of your own can use one without a Trainer.
type Updater struct {
	// Steps is the number of updates made. Steps and State together are the Updater's
	// whole state.
	Steps int

	optimizer Optimizer
	// elementwise says that parts of a parameter can be updated on their own.
	elementwise bool
	params      []*autograd.Param
	state       []*autograd.Param // [params][slots]
	slots       [][]float32       // of one parameter

	lr      float64 // learning rate of the update under way
	threads int
	large   map[*autograd.Param]int // places of the large parameters in params
}

// large is the number of weights from which on a layer is updated while its gradient is
// computed. This saves the memory of the gradient and two passes over it.
const large = 1 << 18

// NewUpdater returns an updater of params that has made no update. It returns an error
// that names the first field of the optimizer that is out of its range, or two slots of one
// name.
func NewUpdater(o Optimizer, params []*autograd.Param) (*Updater, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	names := o.Slots()
	for i, name := range names {
		if slices.Contains(names[:i], name) { // checkpoints would keep one of the two
			return nil, fmt.Errorf("train: Slots of %T has the name %q twice, want different names", o, name)
		}
	}
	u := &Updater{optimizer: o, params: params, slots: make([][]float32, len(names)), large: map[*autograd.Param]int{}}
	switch o.(type) { // its type, since a method would be inherited by what embeds it
	case SGD, Adam:
		u.elementwise = true
	}
	for i, p := range params {
		if u.elementwise && len(p.Shape) > 1 && p.Len() >= large && !slices.Contains(params[:i], p) && !slices.Contains(params[i+1:], p) {
			u.large[p] = i
		}
		for _, name := range names {
			s := autograd.NewParam(p.Shape...)
			s.Name = name + "." + p.Name
			u.state = append(u.state, s)
		}
	}
	return u, nil
}

// FusedUpdate begins an update with the learning rate lr and at most threads goroutines.
// The backward pass hands the gradients of large layers to the returned value, which
// updates these layers at once. Step with the same lr must follow; it updates the other
// parameters. The result is the same as that of Step alone.
func (u *Updater) FusedUpdate(lr float64, threads int) autograd.FusedUpdate {
	u.lr, u.threads = lr, threads
	return fusedUpdate{u}
}

// fusedUpdate is an Updater whose update is under way.
type fusedUpdate struct{ *Updater }

// Handles implements [autograd.FusedUpdate].
func (s fusedUpdate) Handles(p *autograd.Param) bool { _, ok := s.large[p]; return ok }

// Update implements [autograd.FusedUpdate].
func (s fusedUpdate) Update(p *autograd.Param, at int, grad []float32) {
	s.updatePart(s.large[p], at, grad, s.lr, s.threads)
}

// updatePart updates the values of parameter i from number at on, by their gradient. Step must
// follow, without a gradient of the parameter. The optimizer is elementwise.
func (u *Updater) updatePart(i, at int, grad []float32, lr float64, threads int) {
	for k := range u.slots {
		u.slots[k] = u.state[i*len(u.slots)+k].MutableData()[at:][:len(grad)]
	}
	u.optimizer.Update(u.params[i].MutableData()[at:][:len(grad)], grad, u.slots, lr, u.Steps+1, threads)
}

// Step updates every parameter that has a gradient, with the learning rate lr. It uses at
// most threads goroutines, or GOMAXPROCS if threads is not positive. It does not change
// the gradients.
func (u *Updater) Step(lr float64, threads int) {
	u.Steps++
	for i, p := range u.params {
		g := p.Grad()
		if g == nil {
			continue
		}
		for k := range u.slots {
			u.slots[k] = u.state[i*len(u.slots)+k].MutableData()
		}
		u.optimizer.Update(p.MutableData(), g, u.slots, lr, u.Steps, threads)
	}
}

// State returns the vectors that are kept for the parameters, under names such as
// momentum.features.0.weight. They are shared with the updater.
func (u *Updater) State() []*autograd.Param { return u.state }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
