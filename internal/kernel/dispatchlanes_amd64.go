//go:build !purego

package kernel

func (l Level) neuronForward(r *neuronRun) {
	switch l {
	case AVX512:
		neuronForwardAVX512(r)
	case AVX2:
		neuronForwardAVX2(r)
	default:
		neuronForwardPortable(r)
	}
}

func (l Level) neuronMembranes(r *neuronRun) {
	switch l {
	case AVX512:
		neuronMembranesAVX512(r)
	case AVX2:
		neuronMembranesAVX2(r)
	default:
		neuronMembranesPortable(r)
	}
}

func (l Level) neuronBackward(r *neuronRun) {
	switch l {
	case AVX512:
		neuronBackwardAVX512(r)
	case AVX2:
		neuronBackwardAVX2(r)
	default:
		neuronBackwardPortable(r)
	}
}

func (l Level) mask(dst, src *float32, mask *uint16, c *float32, n int, add bool) {
	switch l {
	case AVX512:
		maskAVX512(dst, src, mask, c, n, add)
	case AVX2:
		maskAVX2(dst, src, mask, c, n, add)
	default:
		maskPortable(dst, src, mask, c, n, add)
	}
}

func (l Level) fold(sum *float64, v *float32, n int) {
	switch l {
	case AVX512:
		foldAVX512(sum, v, n)
	case AVX2:
		foldAVX2(sum, v, n)
	default:
		foldPortable(sum, v, n)
	}
}

func (l Level) scale(dst, src, c *float32, n int, add bool) {
	switch l {
	case AVX512:
		scaleAVX512(dst, src, c, n, add)
	case AVX2:
		scaleAVX2(dst, src, c, n, add)
	default:
		scalePortable(dst, src, c, n, add)
	}
}
