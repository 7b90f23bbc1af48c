package certify

import (
	"fmt"
	"slices"
)

// Method computes bounds of the logits. [Intervals], [Trains] and [Linear] are methods, from the
// fastest to the tightest, and [Counts] is one for IF neurons with soft reset.
type Method interface {
	fmt.Stringer
	// margins returns lower bounds of logit_y − logit_j over the images of a, for each class j of
	// rivals. It computes the spikes that a does not have.
	margins(a *analysis, y int, rivals []int) ([]float64, error)
}

// Intervals is plain interval arithmetic through all layers and steps (S-IBP). Each neuron at each
// step never fires, surely fires or perhaps fires, and each current and each membrane potential has
// an interval of its own. The last linear layer is merged with the differences of the logits.
type Intervals struct{}

// String returns "intervals".
func (Intervals) String() string { return "intervals" }

func (Intervals) margins(a *analysis, y int, rivals []int) ([]float64, error) {
	if err := a.run(false); err != nil {
		return nil, err
	}
	return a.margins(y, rivals, constantRelaxation), nil
}

// Trains lists for each neuron the spike trains that it may have. In a layer that sees a constant
// image, a neuron's current is constant, and its few spike trains are listed exactly. In deeper
// layers a potential is a sum over neurons since the last reset; it is bounded with one train of
// each of them.
type Trains struct{}

// String returns "trains".
func (Trains) String() string { return "trains" }

func (Trains) margins(a *analysis, y int, rivals []int) ([]float64, error) {
	if err := a.run(true); err != nil {
		return nil, err
	}
	return a.margins(y, rivals, constantRelaxation), nil
}

// Linear adds to Trains linear relaxations (CROWN). It bounds the spikes of each neuron by a linear
// function of its currents, and goes back with these from the differences of the logits to the
// image.
type Linear struct{}

// String returns "linear".
func (Linear) String() string { return "linear" }

func (Linear) margins(a *analysis, y int, rivals []int) ([]float64, error) {
	if err := a.run(true); err != nil {
		return nil, err
	}
	best := a.margins(y, rivals, constantRelaxation)
	for _, at := range []float64{0.5, 0.2, 0.8} {
		for i, v := range a.margins(y, rivals, hullRelaxation(at)) {
			best[i] = max(best[i], v)
		}
	}
	return best, nil
}

// margins returns lower bounds of logit_y − logit_j for each class j of rivals, as the program
// computes and compares them.
func (a *analysis) margins(y int, rivals []int, relax relaxation) []float64 {
	out := a.net.nodes[len(a.net.nodes)-1]
	T := a.net.steps
	g, rho := ones(T), func(int) float64 { return 0 }
	if out.static {
		T, g = 1, functional{1}
	}
	if !(T&(T-1) == 0 && slices.Max(out.mag)*float64(T) <= 0x1p24*out.grid) {
		// The mean is a sum over the steps times float32(1/T). It is rounded unless the logits are on a
		// grid and T is a power of two.
		rho = func(c int) float64 { return gamma32(T+1)*out.mag[c]*float64(T) + float64(2*T)*least32 }
	}
	counts := a.spikes[out.index] != nil // sums of spikes are exact, so that equal ones stay equal
	margins := make([]float64, len(rivals))
	for i, j := range rivals {
		k := newTerm(out.c, 0, 1, 0, 1)
		k.v[y], k.v[j] = 1, -1
		v := a.lower(out, g, k, relax, nil)
		if T > 1 && !(counts && v == 0) {
			v -= rho(y) + rho(j)
		}
		margins[i] = v / float64(T)
	}
	return margins
}
