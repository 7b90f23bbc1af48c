package kernel

import "sync/atomic"

// SGD makes a step of stochastic gradient descent with momentum:
//
//	d = g + decay·w;  v = momentum·v + d;  w −= lr·v
//
// If nesterov is set, the last step is w −= lr·(d + momentum·v). If v is nil, there is no
// momentum: w −= lr·d. g and v have the length of w.
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

// Adam makes a step of Adam:
//
//	d = g + Decay·w
//	m = Beta1·m + Rest1·d;  v = Beta2·v + Rest2·d²
//	w −= Size·m/(√v/Correction + Eps)
//
// g, m and v have the length of w.
func Adam(w, g, m, v []float32, s AdamStep, threads int) {
	l := CurrentLevel()
	chunks(threads, len(w), func(lo, hi int) {
		whole := (hi - lo) / Lanes * Lanes
		if whole > 0 {
			l.adam(&w[lo], &g[lo], &m[lo], &v[lo], &s, whole)
		}
		if lo += whole; lo < hi {
			adamPortable(&w[lo], &g[lo], &m[lo], &v[lo], &s, hi-lo)
		}
	})
}

// Finite reports whether no value of x is NaN or infinite.
func Finite(x []float32, threads int) bool {
	type args struct {
		l     Level
		x     []float32
		found *atomic.Bool
	}
	found := flags.Get().(*atomic.Bool)
	defer flags.Put(found)
	found.Store(false)
	chunksWith(threads, len(x), args{CurrentLevel(), x, found}, func(k args, lo, hi int) {
		// A sum in float64 overflows on no finite float32.
		var sum [Lanes]float64
		whole := (hi - lo) / Lanes
		if whole > 0 {
			k.l.sum(&sum[0], &k.x[lo], whole)
		}
		for _, v := range k.x[lo+whole*Lanes : hi] {
			sum[0] += float64(v)
		}
		for _, v := range sum {
			if v-v != 0 {
				k.found.Store(true)
			}
		}
	})
	return !found.Load()
}
