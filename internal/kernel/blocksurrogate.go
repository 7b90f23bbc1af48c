package kernel

import "github.com/org/snnrat/internal/parallel"

// A backward scan goes through a unit in one run of one tile if its surrogate is a
// BlockSurrogate. If a unit has one pixel, the derivatives of all units of an image are
// computed before the scan.

// inlineWidth returns the width of s, if s is a Triangle that is computed inline.
func inlineWidth(s Surrogate) (width float32, inline bool) {
	if _, ok := s.(BlockSurrogate); ok {
		return 0, false
	}
	if t, ok := s.(Triangle); ok {
		return t.TriangleWidth(), true
	}
	return 0, false
}

// runOf returns the number of pixels of a run, or of a tile, with the surrogate s: size, or
// all.
func (sc *Scan) runOf(s Surrogate, size int) int {
	if _, ok := s.(BlockSurrogate); ok {
		return sc.Pixels
	}
	return size
}

// layerSlopes are the derivatives of all units of one pixel, [Units][Steps][16], or nil.
type layerSlopes struct{ buf *[]float32 }

func (s layerSlopes) release() {
	if s.buf != nil {
		release(s.buf)
	}
}

// ofLayer computes the derivatives of units of one pixel, if s is a BlockSurrogate. potentials
// writes u of unit u to the first Steps·16 values of buf, which has six times as many and 64
// more to spare.
func (sc *Scan) ofLayer(s Surrogate, threads int, potentials func(u int, buf []float32)) layerSlopes {
	block, ok := s.(BlockSurrogate)
	if !ok || sc.Pixels != 1 {
		return layerSlopes{}
	}
	blocks, size := sc.Units/sc.Images, sc.Steps*Lanes
	all := scratch(sc.Units * size)
	parallel.For(threads, sc.Images, func(n int) {
		buf := scratch((blocks+7)*size + 4*Lanes)
		defer release(buf)
		image, own := (*buf)[:blocks*size], (*buf)[blocks*size:]
		for b := range blocks {
			potentials(b*sc.Images+n, own)
			copy(image[b*size:], own[:size])
		}
		block.BlockDerivative(image, n, 0)
		for b := range blocks {
			copy((*all)[(b*sc.Images+n)*size:], image[b*size:][:size])
		}
	})
	return layerSlopes{all}
}

// derivatives overwrites d, u of a tile of unit u, by the derivatives of s.
func (sc *Scan) derivatives(s Surrogate, d []float32, u int, layer layerSlopes) {
	block, ok := s.(BlockSurrogate)
	switch {
	case layer.buf != nil:
		copy(d, (*layer.buf)[u*len(d):])
	case ok:
		block.BlockDerivative(d, u%sc.Images, u/sc.Images)
	default:
		s.Derivative(d, d)
	}
}

// BlockDerivatives overwrites u by the derivatives of s.
//
//	u [Units][Steps][Pixels][16]
func BlockDerivatives(u []float32, s BlockSurrogate, sc Scan, threads int) {
	size := sc.Steps * sc.Pixels * Lanes
	layer := sc.ofLayer(s, threads, func(unit int, buf []float32) { copy(buf, u[unit*size:][:size]) })
	defer layer.release()
	parallel.For(threads, sc.Units, func(unit int) { sc.derivatives(s, u[unit*size:][:size], unit, layer) })
}
