package lipschitz

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Response is a layer of neurons with hard reset behind a linear map W without bias,
// for the bounds of what its spikes can differ by; see the package documentation for
// their proofs.
type Response struct {
	Decay     float64 // λ in (0, 1]
	Threshold float64 // θ > 0
	Steps     int     // T ≥ 1
}

func (r Response) validate(op string) error {
	switch {
	case !(r.Decay > 0 && r.Decay <= 1):
		return fmt.Errorf("lipschitz: %s: decay is %v; expected a number in (0, 1]", op, r.Decay)
	case !(r.Threshold > 0) || math.IsInf(r.Threshold, 0):
		return fmt.Errorf("lipschitz: %s: threshold is %v; expected a positive number", op, r.Threshold)
	case r.Steps < 1:
		return fmt.Errorf("lipschitz: %s: %d steps; expected at least 1", op, r.Steps)
	}
	return nil
}

// Gain returns K = Λ²·Σ_{k<T} λ^2k/θ², which the spikes that the layer fires, in all
// neurons and steps, are at most as many times those that come in; lambda is Λ or a
// bound above it, such as a convolution's norm. For trains x and y that come in and
// s and z that go out,
//
//	D₂²(s, z) ≤ |s| + |z| ≤ K·(|x| + |y|)
//
// Against silence, y = 0, that is D₂(s, 0) ≤ √K·D₂(x, 0). Gain returns an error if
// lambda is negative or not finite or if a field of r is out of its range.
func (r Response) Gain(lambda float64) (float64, error) {
	if err := r.validate("Gain"); err != nil {
		return 0, err
	}
	if !(lambda >= 0) || math.IsInf(lambda, 0) {
		return 0, fmt.Errorf("lipschitz: Gain: lambda is %v; expected a finite number of at least 0", lambda)
	}
	return up(lambda * lambda * powers(r.Decay*r.Decay, r.Steps) / (r.Threshold * r.Threshold)), nil
}

// powers returns Σ_{k<n} x^k.
func powers(x float64, n int) (sum float64) {
	for range n {
		sum = x*sum + 1
	}
	return sum
}

// MostDifferences returns, for each row of the row-major rows × cols matrix w, the
// largest number of steps in which the neuron's spikes can differ, whatever the two
// trains that come in:
//
//	min(T − q + 1, 2·⌊T/q⌋)
//
// or 0 if q > T, with q the least number of steps in which the row's positive weights
// and its bias can bring the neuron from 0 to its threshold; and 0 if its negative
// weights cannot keep the bias below the threshold, so that it fires in every step.
// Their sum over all neurons bounds D₂². bias is [rows], or nil for none. It returns an
// error if w or bias holds a value that is not finite or if a field of r is out of its
// range.
func (r Response) MostDifferences(w, bias []float32, rows, cols int) ([]int, error) {
	if err := r.validate("MostDifferences"); err != nil {
		return nil, err
	}
	sums, err := signedRowSums("MostDifferences", w, rows, cols)
	if err != nil {
		return nil, err
	}
	if err := checkBias("MostDifferences", bias, rows); err != nil {
		return nil, err
	}
	each := make([]int, rows)
	for i, s := range sums {
		least, most := s.plus(bias, i)
		each[i] = r.mostDifferences(least, most, gammaOf(cols+1)*(s.pos+s.neg+math.Abs(least)))
	}
	return each, nil
}

// mostDifferences returns that of a neuron whose currents lie between least and most,
// which rounding may have moved by slack.
func (r Response) mostDifferences(least, most, slack float64) int {
	if least-slack >= r.Threshold {
		return 0
	}
	for q, reach := 1, 0.0; q <= r.Steps; q++ {
		if reach = r.Decay*reach + most + slack; up(reach)*(1+gammaOf(2*q)) >= r.Threshold {
			return min(r.Steps-q+1, 2*(r.Steps/q))
		}
	}
	return 0
}

// ResetBound bounds D₂² between the spikes that two inputs cause in so many neurons,
// whose currents are no more than currents apart, ‖I − I'‖₂ over all neurons and steps,
// and whose potentials lie in [lo, hi], as by [MembraneBounds]:
//
//	D₂(s,z) ≤ (‖I − I'‖₂ + R·√(N·((1+λ)²·(T − 1) + 1)))/θ
//
// with R the range of potentials that are carried from step to step, from min(lo, 0) to
// max(0, min(hi, θ)). It has the form of a bound by Λ·D₂(x,y) and by what potentials can
// differ by, and it is loose: it exceeds the N·T that D₂² never does, unless hi is well
// below θ. It returns an error if a field of r is out of its range, or if an argument is
// not a finite number, currents or neurons are negative, or hi < lo.
//
// What a step takes from the potential is r(t) = m(t)·s(t), and what it carries on is
// v(t) = m(t) − r(t), hence r(t) = I(t) + λ·v(t−1) − v(t). Where two trains of spikes
// differ, one of their r is 0 and the other at least θ, so that
//
//	θ·D₂(s,z) ≤ ‖r − r'‖₂ ≤ ‖I − I'‖₂ + (Σ_t ‖λ·(v − v')(t−1) − (v − v')(t)‖₂²)^½
//
// of which the v − v' are at most R, and 0 at the start.
func (r Response) ResetBound(currents, lo, hi float64, neurons int) (float64, error) {
	if err := r.validate("ResetBound"); err != nil {
		return 0, err
	}
	if !(currents >= 0) || !(lo <= hi) || neurons < 0 || math.IsInf(currents+hi-lo, 0) {
		return 0, fmt.Errorf("lipschitz: ResetBound: currents %v apart, potentials in [%v, %v], %d neurons; expected finite numbers in order, of at least 0",
			currents, lo, hi, neurons)
	}
	carried := max(0, min(hi, r.Threshold)) - min(lo, 0)
	steps := math.Pow(1+r.Decay, 2)*float64(r.Steps-1) + 1
	return up(math.Pow((currents+carried*math.Sqrt(float64(neurons)*steps))/r.Threshold, 2)), nil
}

// MarginBound returns, for each of the N images of current, a bound of D₂² between
// the spikes that current causes and those of any other current whose difference from
// it has the squares sum to no more than energy[n], over all neurons and steps. Behind
// a linear map of spikes, Λ²·D₂² of the trains that come in is such a sum; a bias
// changes nothing. Unlike the other bounds it depends on the input, and goes to 0
// with energy.
//
// A neuron's spikes first differ in a step t where its potential m has moved by at
// least |m(t) − θ|. Since its last reset, L steps ago, the differences of its current
// c(k) have added up to Σ λ^(t−k)·c(k), whose square is at most Σ_{k<L} λ^2k·Σ c(k)².
// So every step has a price, (m(t) − θ)²/Σ_{k<L} λ^2k, and from the first step t on
// that energy can pay, T − t + 1 differences are all there can be. No more neurons can
// differ than energy pays for, each at its lowest price: the bound is the largest sum
// of such differences for that, with neurons allowed in part.
//
// current is dense, of r.Steps steps or of 1 if it is the same at every step. Rounding
// is not accounted for: the bound is that of neurons which compute exactly. It returns
// an error if current holds a value that is not finite, if an energy is negative or
// NaN, or if a field of r is out of its range, and panics if the number of energies is
// not N or the steps do not fit.
func (r Response) MarginBound(current *tensor.Dense, energy []float64) ([]int, error) {
	if err := r.validate("MarginBound"); err != nil {
		return nil, err
	}
	s := current.Shape
	if len(energy) != s.N || s.Steps != 1 && s.Steps != r.Steps {
		panic(fmt.Sprintf("lipschitz: MarginBound: %d energies for currents %v of neurons with %d steps", len(energy), s, r.Steps))
	}
	if i := slices.IndexFunc(current.Data, func(v float32) bool { return v-v != 0 }); i >= 0 {
		return nil, fmt.Errorf("lipschitz: MarginBound: a current is %v; expected finite numbers", current.Data[i])
	}
	square := make([]float64, r.Steps+1) // Σ_{k<L} λ^2k
	for l := range square {
		square[l] = powers(r.Decay*r.Decay, l)
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
				if p := r.price(current, square, n, c, i, e); p.gain > 0 {
					open = append(open, p)
				}
			}
		}
		bounds[n] = spend(open, e)
	}
	return bounds, nil
}

// purchase is what a neuron's differences cost and how many they can be.
type purchase struct {
	price float64
	gain  int
}

// price returns that of neuron (c, pixel) of image n, with no gain if e does not pay
// for any.
func (r Response) price(current *tensor.Dense, square []float64, n, c, pixel int, e float64) (p purchase) {
	y, x := pixel/current.W, pixel%current.W
	m, since := 0.0, 0
	p.price = math.Inf(1)
	for t := range r.Steps {
		m = r.Decay*m + float64(current.At(n, min(t, current.Steps-1), c, y, x))
		since++
		d := (m - r.Threshold) * (1 - 1e-12)
		price := d * d / square[since]
		if price <= e {
			if p.gain == 0 {
				p.gain = r.Steps - t
			}
			p.price = min(p.price, price)
		}
		if m >= r.Threshold {
			m, since = 0, 0
		}
	}
	if e == 0 { // not even a tie moves
		p.gain = 0
	}
	return p
}

// spend returns the most gain for e, the last of them in part, rounded down.
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
