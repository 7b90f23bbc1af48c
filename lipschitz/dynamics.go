package lipschitz

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Dynamics describes a layer of N neurons with hard reset that runs for T steps. For the
// input spikes x(t) in {0,1}ⁿ, a matrix W and a bias b,
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t) + b,  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// Its methods bound D₂², the number of differences between two output spike trains s and z.
// x and y are the inputs that cause them. The bounds hold for neurons that compute exactly:
// a network in float32 can exceed them if it rounds a potential across the threshold. The
// tests check every bound for all pairs of input trains of small layers.
type Dynamics struct {
	Decay     float64 // λ in (0, 1]; 1 for IF neurons
	Threshold float64 // θ > 0
	Steps     int     // T ≥ 1
}

func (d Dynamics) validate(op string) error {
	switch {
	case !(d.Decay > 0 && d.Decay <= 1):
		return fmt.Errorf("lipschitz: %s: decay is %v; expected a number in (0, 1]", op, d.Decay)
	case !(d.Threshold > 0) || math.IsInf(d.Threshold, 0):
		return fmt.Errorf("lipschitz: %s: threshold is %v; expected a positive number", op, d.Threshold)
	case d.Steps < 1:
		return fmt.Errorf("lipschitz: %s: %d steps; expected at least 1", op, d.Steps)
	}
	return nil
}

// Gain returns K = Λ²·Σ_{k<T} λ^2k/θ² for a layer without a bias. The layer fires at most
// K·|x| spikes in all neurons and steps, where |x| is the number of input spikes. lambda is
// Λ of W or an upper bound of it, such as the norm of a convolution. For two inputs x and y,
//
//	D₂²(s,z) ≤ |s| + |z| ≤ K·(|x| + |y|)
//
// For y = 0 this is D₂(s,0) ≤ √K·D₂(x,0). If K < 1, the number of spikes falls from layer
// to layer.
//
// Proof: Let a neuron fire at step t, L steps after its previous spike. Then θ is at most
// the sum of λ^(t−k)·I(k) over these L ≤ T steps, where I is its current. The
// Cauchy–Schwarz inequality gives θ² ≤ Σ_{k<T} λ^2k·Σ_k I(k)². Different spikes of a neuron
// use different steps. The sum over all spikes is θ²·|s| ≤ Σ_{k<T} λ^2k·Σ_t ‖W·x(t)‖², and
// ‖W·x(t)‖² ≤ Λ²·‖x(t)‖² because x(t) is in {−1,0,1}ⁿ.
//
// K is rounded upwards. Gain returns an error if lambda is negative or not finite, or if a
// field of d is out of its range.
func (d Dynamics) Gain(lambda float64) (float64, error) {
	if err := d.validate("Gain"); err != nil {
		return 0, err
	}
	if !(lambda >= 0) || math.IsInf(lambda, 0) {
		return 0, fmt.Errorf("lipschitz: Gain: lambda is %v; expected a finite number of at least 0", lambda)
	}
	ratio := divUp(lambda, d.Threshold)
	return mulUp(mulUp(ratio, ratio), powersUp(mulUp(d.Decay, d.Decay), d.Steps)), nil
}

// MaxDifferences returns a bound for each neuron, that is for each row of the row-major
// rows × cols matrix w: the number of steps in which its output can differ, for any two
// inputs. The sum over all neurons bounds D₂². bias is [rows], or nil for none.
//
// The bound is 0 for a neuron that fires in every step for every input, and for a neuron
// that cannot fire within T steps. Every other neuron has the bound
//
//	min(T − q + 1, 2·⌊T/q⌋)
//
// where q is the least number with P·Σ_{k<q} λ^k ≥ θ, and P is the sum of the neuron's
// bias and its positive weights.
//
// Proof: The potential is 0 at the start and after a spike. At most q − 1 steps after a
// potential of 0 or less, it is below θ. So the neuron fires at step q at the earliest, and
// at most ⌊T/q⌋ times. Two trains differ only where one of them has a spike.
//
// The result depends on w only through its row sums. If γ of [Gamma] is below θ and there
// is no bias, then q ≥ 2 and the sum over all neurons is at most N·(T − 1).
//
// MaxDifferences accounts for the rounding of its own sums. It returns an error if w or
// bias holds a value that is not finite, or if a field of d is out of its range.
func (d Dynamics) MaxDifferences(w, bias []float32, rows, cols int) ([]int, error) {
	if err := d.validate("MaxDifferences"); err != nil {
		return nil, err
	}
	sums, err := signedRowSums("MaxDifferences", w, rows, cols)
	if err != nil {
		return nil, err
	}
	if err := checkBias("MaxDifferences", bias, rows); err != nil {
		return nil, err
	}
	each := make([]int, rows)
	for i, s := range sums {
		each[i] = d.maxDifferences(s.currents(bias, i))
	}
	return each, nil
}

// maxDifferences returns the bound of a neuron whose currents lie in [least, most].
func (d Dynamics) maxDifferences(least, most float64) int {
	if least >= d.Threshold || most <= 0 {
		return 0
	}
	for q, reach := 1, 0.0; q <= d.Steps; q++ {
		if reach = addUp(mulUp(d.Decay, reach), most); reach >= d.Threshold {
			return min(d.Steps-q+1, 2*(d.Steps/q))
		}
	}
	return 0
}

// MarginBound returns a bound of D₂² for each of the N images of current. It compares the
// spikes of that current with the spikes of any other current. energy[n] bounds the
// difference of the two currents of image n: it is the sum of squares over all neurons and
// steps. Behind a linear map of spikes, Λ²·D₂²(x,y) is such a sum; a bias cancels. This
// bound depends on the potentials, and it is 0 for an energy of 0.
//
// Proof: The spikes of a neuron first differ at a step t where its potential m has moved by
// at least |m(t) − θ|. Let L be the number of steps since its last reset, and c(k) the
// difference of its currents at step k. Then the potential has moved by Σ λ^(t−k)·c(k), and
// the square of that is at most Σ_{k<L} λ^2k·Σ c(k)². So step t has the price
// (m(t) − θ)²/Σ_{k<L} λ^2k, which is energy that the neuron must receive. If t is the first
// step whose price is within the energy, the neuron has at most T − t + 1 differences. It
// costs at least its lowest price. The prices of all neurons that differ add up to at most
// the energy. The result is the largest number of differences for that budget, if parts of
// a neuron can be bought too.
//
// current is dense, with d.Steps steps, or with 1 step if it is the same at every step.
// The potentials and prices are float64 numbers. The code allows for a relative rounding of
// about 1e-12; it does not bound the rounding of potentials that nearly cancel.
//
// MarginBound returns an error if current holds a value that is not finite, if an energy is
// negative or NaN, or if a field of d is out of its range. It panics if the number of
// energies is not N, or if the steps of current do not fit.
func (d Dynamics) MarginBound(current *tensor.Dense, energy []float64) ([]int, error) {
	if err := d.validate("MarginBound"); err != nil {
		return nil, err
	}
	s := current.Shape
	if len(energy) != s.N || s.Steps != 1 && s.Steps != d.Steps {
		panic(fmt.Sprintf("lipschitz: MarginBound: %d energies for currents %v of neurons with %d steps", len(energy), s, d.Steps))
	}
	if i := slices.IndexFunc(current.Data, func(v float32) bool { return v-v != 0 }); i >= 0 {
		return nil, fmt.Errorf("lipschitz: MarginBound: a current is %v; expected finite numbers", current.Data[i])
	}
	squares := make([]float64, d.Steps+1) // Σ_{k<L} λ^2k for each L
	for l := range squares {
		squares[l] = powersUp(mulUp(d.Decay, d.Decay), l)
	}
	bounds := make([]int, s.N)
	for n := range bounds {
		e := energy[n]
		if !(e >= 0) {
			return nil, fmt.Errorf("lipschitz: MarginBound: the energy of image %d is %v; expected at least 0", n, e)
		}
		var open []purchase
		for c := range s.C {
			for i := range s.Pixels() {
				if p := d.price(current, squares, n, c, i, e); p.gain > 0 {
					open = append(open, p)
				}
			}
		}
		bounds[n] = spend(open, e)
	}
	return bounds, nil
}

// purchase is the lowest price of a neuron's differences, and their largest number.
type purchase struct {
	price float64
	gain  int
}

// price returns the purchase of neuron (c, pixel) of image n. Its gain is 0 if the energy e
// is below every price.
func (d Dynamics) price(current *tensor.Dense, squares []float64, n, c, pixel int, e float64) (p purchase) {
	y, x := pixel/current.W, pixel%current.W
	m, since := 0.0, 0
	p.price = math.Inf(1)
	for t := range d.Steps {
		m = d.Decay*m + float64(current.At(n, min(t, current.Steps-1), c, y, x))
		since++
		distance := (m - d.Threshold) * (1 - 1e-12)
		price := distance * distance / squares[since]
		if price <= e {
			if p.gain == 0 {
				p.gain = d.Steps - t
			}
			p.price = min(p.price, price)
		}
		if m >= d.Threshold {
			m, since = 0, 0
		}
	}
	if e == 0 { // equal currents cause equal spikes, at the threshold too
		p.gain = 0
	}
	return p
}

// spend returns the largest gain for the budget e, rounded down. It buys the best gain per
// price first and a part of the last one.
func spend(open []purchase, e float64) int {
	slices.SortFunc(open, func(a, b purchase) int {
		if c := cmp.Compare(a.price*float64(b.gain), b.price*float64(a.gain)); c != 0 {
			return c
		}
		return cmp.Compare(b.gain, a.gain)
	})
	gain, left := 0.0, e*(1+1e-12)
	for _, p := range open {
		if p.price > left {
			gain += float64(p.gain) * left / p.price
			break
		}
		left -= p.price
		gain += float64(p.gain)
	}
	return int(gain * (1 + 1e-12))
}
