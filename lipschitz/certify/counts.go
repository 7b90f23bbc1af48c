package certify

import (
	"math"
	"slices"
)

// Counts bounds the number of spikes of each neuron up to each step. It is for networks of IF
// neurons with soft reset: snn.LIF with Decay 1 and SoftReset. It is about as fast as [Intervals],
// and tighter for them.
//
// With the sum I(t) of the currents of the steps 1 to t, and N(t) spikes in them, such a neuron
// fires at step t if Start + I(t) − Threshold·N(t−1) ≥ Threshold. So N is monotone in I: if
// I'(t) ≥ I(t) for all t, then N'(t) ≥ N(t) for all t. For if N'(t−1) = N(t−1), the neuron with I'
// fires at step t if that with I does; and if N'(t−1) > N(t−1), one spike more cannot make up for
// it. The least and the largest I of a layer therefore give the least and the largest N. The layers
// in between are affine, so they map bounds of N to bounds of the I of the next layer. No interval
// of a membrane potential widens after a spike that is not certain, as it does in Intervals.
//
// The program rounds its potentials. I(t) is widened by the largest error that t additions and
// subtractions can make.
type Counts struct{}

// String returns "counts".
func (Counts) String() string { return "counts" }

func (Counts) margins(a *analysis, y int, rivals []int) ([]float64, error) {
	if err := a.counts(); err != nil {
		return nil, err
	}
	return a.margins(y, rivals, countRelaxation), nil
}

// counts computes bounds of the spikes of all layers that have none: trains that have the least and the largest
// number of spikes up to every step. They are the must and the may of a spikeSet, of which only
// functionals with weights that do not rise are bounds.
func (a *analysis) counts() error {
	for _, n := range a.net.nodes {
		if a.spikes[n.index] != nil {
			continue
		}
		switch op := n.op.(type) {
		case *neurons:
			one := func(v []float32) bool { return slices.Min(v) == 1 && slices.Max(v) == 1 }
			if !op.soft || !one(op.decay) || !one(op.gain) {
				return &layerError{n.name, "counts have no bound here: expected IF neurons with soft reset"}
			}
			s, err := a.countsOf(n, op)
			if err != nil {
				return err
			}
			a.spikes[n.index] = s
		case largest:
			return &layerError{n.name, "counts have no bound for max pooling: expected average pooling"}
		}
	}
	return nil
}

// countsOf bounds the spikes of the neurons n.
func (a *analysis) countsOf(n *node, op *neurons) (*spikeSet, error) {
	x, T := n.in[0], a.net.steps
	s := &spikeSet{must: make([]uint64, n.size()), may: make([]uint64, n.size())}
	least, most := make([]float64, n.size()), make([]float64, n.size()) // spikes so far
	for t := range T {
		v := a.functional(x, upTo(t, T))
		for i := range s.must {
			c := i / (n.h * n.w)
			theta, start := float64(op.threshold[c]), float64(op.start[c])
			// No potential or sum of currents is larger, but for rounding.
			size := math.Abs(start) + float64(T+1)*(x.mag[c]+theta)
			if !(size < mostValue) {
				return nil, &overflowError{n.name}
			}
			// A step adds a current and subtracts a threshold. The rest is for this function.
			e := (1.01*unit32*float64(2*(t+1))+gamma64(8))*size + float64(2*(t+1))*least32
			if start+v.lo[i]-e-theta*least[i] >= theta {
				s.must[i] |= 1 << t
				least[i]++
			}
			if start+v.hi[i]+e-theta*most[i] >= theta {
				s.may[i] |= 1 << t
				most[i]++
			}
		}
	}
	return s, nil
}

// upTo returns the functional that is the sum of the steps 0 to t.
func upTo(t, T int) functional {
	g := make(functional, T)
	for i := range t + 1 {
		g[i] = 1
	}
	return g
}

// countRelaxation bounds the spikes of a neuron by their least and their largest number. The
// functional is the number of all spikes, times a coefficient.
func countRelaxation(_ *node, s *spikeSet, i int, w func(mask uint64) float64) (slope, constant float64) {
	return 0, min(w(s.must[i]), w(s.may[i]))
}
