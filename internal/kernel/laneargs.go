package kernel

import "unsafe"

// The argument blocks of the routines of neurons. Strides are in bytes.

// neuronRun is a run of pixels of one unit of neurons, over all steps. Vectors are
// 16 lanes of one pixel; those of a step lie side by side. Routines go step by
// step, since steps that lie a power of two apart compete for the same places in
// the caches.
type neuronRun struct {
	x, s     unsafe.Pointer // inputs and spikes: vectors of float32, and words
	a, b     unsafe.Pointer // vectors: currents are a·x + b
	state    unsafe.Pointer // [pixels] vectors, zero at first: membranes, or ∂q
	mem      unsafe.Pointer // membranes before the reset, [steps][pixels] vectors
	slope    unsafe.Pointer // as mem: surrogate derivatives; nil for a triangle
	dout, dx unsafe.Pointer // gradients of spikes and of inputs; dx may be nil
	scale    unsafe.Pointer // vector: dx is scale·dcur
	total    unsafe.Pointer // [pixels] vectors, to which dcur is added; or nil
	dot      unsafe.Pointer // as total: dcur·(x − mean)
	mean     unsafe.Pointer // vector, or nil

	pixels, steps                  uint64
	xStep, sStep, doutStep, dxStep uint64 // from a step to the next
	memStep                        uint64

	leak, threshold float32
	width, height   float32 // the triangle is max(0, width − |u|)·height
	soft            uint32  // 1 if the reset lowers the membrane by the threshold
	detach          uint32  // 1 if the reset carries no gradient
	add             uint32  // 1 if dx is added to
	_               uint32
}
