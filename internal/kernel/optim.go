package kernel

import "math"

// SGD makes a step of stochastic gradient descent with momentum:
//
//	d = g + decay·w;  v = momentum·v + d;  w −= lr·v
//
// or, if nesterov is set, w −= lr·(d + momentum·v). A nil v stands for no momentum:
// w −= lr·d. All have the length of w.
func SGD(w, g, v []float32, lr, momentum, decay float32, nesterov bool, threads int) {
	l := CurrentLevel()
	k := sgdStep{lr, momentum, decay}
	chunks(threads, len(w), func(lo, hi int) {
		if v == nil {
			g := g[lo:hi]
			for i, x := range w[lo:hi] {
				d := g[i] + float32(decay*x)
				w[lo+i] = x - float32(lr*d)
			}
			return
		}
		whole := (hi - lo) / Lanes * Lanes
		if whole > 0 {
			l.sgd(&w[lo], &g[lo], &v[lo], &k, whole, nesterov)
		}
		if lo += whole; lo < hi {
			sgdPortable(&w[lo], &g[lo], &v[lo], &k, hi-lo, nesterov)
		}
	})
}

// AdamStep holds the factors of a step of Adam, of which some change from step to
// step.
type AdamStep struct {
	Beta1, Beta2 float32
	Rest1, Rest2 float32 // 1 − Beta1, 1 − Beta2
	Size         float32 // lr/(1 − Beta1ᵗ)
	Correction   float32 // √(1 − Beta2ᵗ)
	Eps, Decay   float32
}

// Adam makes a step of Adam:
//
//	d = g + Decay·w
//	m = Beta1·m + Rest1·d;  v = Beta2·v + Rest2·d²
//	w −= Size·m/(√v/Correction + Eps)
//
// All have the length of w.
func Adam(w, g, m, v []float32, s AdamStep, threads int) {
	chunks(threads, len(w), func(lo, hi int) {
		w, g, m, v := w[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi]
		for i, x := range w {
			d := g[i] + float32(s.Decay*x)
			a := float32(s.Beta1*m[i]) + float32(s.Rest1*d)
			b := float32(s.Beta2*v[i]) + float32(s.Rest2*float32(d*d))
			m[i], v[i] = a, b
			root := float32(math.Sqrt(float64(b)))
			w[i] = x - float32(s.Size*a)/(root/s.Correction+s.Eps)
		}
	})
}

// Finite reports whether no value of x is NaN or infinite.
func Finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}
