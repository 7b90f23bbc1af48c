//lint:file-ignore U1000 some fields are for assembly only

package kernel

import "unsafe"

// This file holds the argument blocks of the routines of neurons, windows and optimisers.
// Strides are in bytes.

// neuronRun is a run of pixels of one unit of neurons, over all steps. A vector holds the 16
// lanes of one pixel. The vectors of a step are neighbours in memory. Routines go step by
// step, since steps that lie a power of two apart use the same sets of the caches.
type neuronRun struct {
	x, s     unsafe.Pointer // inputs and spikes: vectors of float32, and words
	a, b     unsafe.Pointer // vectors: currents are a·x + b
	state    unsafe.Pointer // [pixels] vectors, zero at first: membranes, or ∂q
	mem      unsafe.Pointer // membranes before the reset, [steps][pixels] vectors
	slope    unsafe.Pointer // as mem: surrogate derivatives; nil for a triangle
	dout, dx unsafe.Pointer // gradients of spikes and of inputs; dx may be nil
	scale    unsafe.Pointer // vector: dx is scale·dcur
	total    unsafe.Pointer // [pixels] vectors, to which dcur is added; or nil
	sums     unsafe.Pointer // [2][16]float64: sums of dcur and of dcur·(x − mean), added to; or nil
	mean     unsafe.Pointer // [16]float64, or nil
	check    unsafe.Pointer // vector, which stays zero while all membranes before the reset are finite

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	memStep                        uint64

	leak, threshold float32
	width, height   float32 // the triangle is max(0, width − |u|)·height; a support is |u| < width
	soft            uint32  // 1 if the reset lowers the membrane by the threshold
	detach          uint32  // 1 if the reset carries no gradient
	add             uint32  // 1 if dx is added to
	_               uint32
}

// glifRun is a run of pixels of one unit of GLIF neurons, over all steps, as neuronRun.
type glifRun struct {
	x, s       unsafe.Pointer // inputs and spikes: vectors of float32, and words
	membrane   unsafe.Pointer // [pixels] vectors
	carry      unsafe.Pointer // alike; nil without a synaptic current
	adaptation unsafe.Pointer // alike; nil without adaptation
	history    unsafe.Pointer // [steps][pixels][4] vectors: i(t), m(t−1), a(t−1) and one not in use
	adjoint    unsafe.Pointer // [pixels][4] vectors, zero at first: ∂i, ∂m, ∂a and one not in use
	slope      unsafe.Pointer // [steps][pixels] vectors: p − θ, then surrogate derivatives; nil for a triangle
	dout, dx   unsafe.Pointer // gradients of spikes and of inputs; dx may be nil
	total      unsafe.Pointer // [pixels] vectors, to which ∂i is added; or nil
	grad       unsafe.Pointer // [pixels] vectors, which ∂i overwrites; or nil
	feedback   unsafe.Pointer // [pixels] vectors, added to the currents, or to dout; or nil
	check      unsafe.Pointer // vector, which stays zero while all p − θ are finite

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	slopeStep, historyStep         uint64
	soon                           uint64 // from the last step to what to prefetch then of x, or of dout and dx

	soft   uint32 // 1 if the reset lowers the membrane by the threshold
	detach uint32 // 1 if the spike of the reset carries no gradient
	add    uint32 // 1 if dx is added to
	summed uint32 // 1 if sums are added to

	k    glifVectors
	sums glifTotals
}

// glifVectors are constants of a run. Recurrence and jump are negative, because to subtract
// 0 changes no bit.
type glifVectors struct {
	a, b            [16]float32 // currents are a·x + b
	synapticDecay   [16]float32 // α
	recurrence      [16]float32 // −v
	gain            [16]float32 // κ
	decay           [16]float32 // λ
	threshold       [16]float32 // θ₀
	adaptation      [16]float32 // β
	adaptationDecay [16]float32 // ρ
	jump            [16]float32 // ρ − 1
	reset           [16]float32 // V_r
	scale           [16]float32 // dx is scale·∂i
	width, height   [16]float32 // the triangle is max(0, width − |u|)·height; a support is |u| < width
	one             [16]float32
}

// glifTotals are the gradients of coefficients. Those of the threshold and the adaptation
// have the other sign.
type glifTotals struct {
	synapticDecay, recurrence, gain, decay, threshold, adaptation, adaptationDecay, reset [16]float32
}

// slopes are constants of a surrogate derivative, one for each lane.
type slopes struct{ scale, height, shift [16]float32 }

// windowRun is a run over rows of pooling windows, with n windows in a row. Each window has
// count positions, at offsets from its corner.
type windowRun struct {
	out, in         unsafe.Pointer // the side with an element a window, without gaps; the other
	offsets         unsafe.Pointer // [count]int64, into in
	count           uint64
	n, rows         uint64
	pixel, row      uint64 // in in: from a window to the next, and from a row of windows to the next
	scale           float32
	add             uint32
	rowsLeft, rowAt uint64 // the routine's own
}

// sgdStep holds the factors of a step of SGD.
type sgdStep struct{ lr, momentum, decay float32 }

// AdamStep holds the factors of step t of Adam, with the learning rate lr.
type AdamStep struct {
	Beta1, Beta2 float32
	Rest1, Rest2 float32 // 1 − Beta1, 1 − Beta2
	Size         float32 // lr/(1 − Beta1ᵗ)
	Correction   float32 // √(1 − Beta2ᵗ)
	Eps, Decay   float32
}
