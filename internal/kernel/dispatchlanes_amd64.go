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

func (l Level) neuronSupport(r *neuronRun) {
	switch l {
	case AVX512:
		neuronSupportAVX512(r)
	case AVX2:
		neuronSupportAVX2(r)
	default:
		neuronSupportPortable(r)
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

// plain reports whether r has only what the Plain routines know. They exist for AVX2, where the
// constants of plain neurons fit into registers, and those of all neurons do not.
func (r *glifRun) plain() bool {
	return r.carry == nil && r.adaptation == nil && r.feedback == nil && r.slope == nil && r.total == nil && r.grad == nil
}

func (l Level) glifForward(r *glifRun) {
	switch l {
	case AVX512:
		glifForwardAVX512(r)
	case AVX2:
		if r.plain() {
			glifForwardPlainAVX2(r)
		} else {
			glifForwardAVX2(r)
		}
	default:
		glifForwardPortable(r)
	}
}

func (l Level) glifSupport(r *glifRun) {
	switch l {
	case AVX512:
		glifSupportAVX512(r)
	case AVX2:
		glifSupportAVX2(r)
	default:
		glifSupportPortable(r)
	}
}

func (l Level) glifReplay(r *glifRun) {
	switch l {
	case AVX512:
		glifReplayAVX512(r)
	case AVX2:
		if r.plain() {
			glifReplayPlainAVX2(r)
		} else {
			glifReplayAVX2(r)
		}
	default:
		glifReplayPortable(r)
	}
}

func (l Level) glifBackward(r *glifRun) {
	switch l {
	case AVX512:
		glifBackwardAVX512(r)
	case AVX2:
		if r.plain() && r.dx != nil {
			glifBackwardPlainAVX2(r)
		} else {
			glifBackwardAVX2(r)
		}
	default:
		glifBackwardPortable(r)
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

func (l Level) halve(low, high, src *float32, n int) {
	switch l {
	case AVX512, AVX2:
		halveAVX2(low, high, src, n)
	default:
		halvePortable(low, high, src, n)
	}
}

func (l Level) affine(dst, x, a, b *float32, n int) {
	switch l {
	case AVX512:
		affineAVX512(dst, x, a, b, n)
	case AVX2:
		affineAVX2(dst, x, a, b, n)
	default:
		affinePortable(dst, x, a, b, n)
	}
}

func (l Level) sum(sum *float64, x *float32, n int) {
	switch l {
	case AVX512:
		sumAVX512(sum, x, n)
	case AVX2:
		sumAVX2(sum, x, n)
	default:
		sumPortable(sum, x, n)
	}
}

func (l Level) squares(sum *float64, x *float32, shift *float64, n int) {
	switch l {
	case AVX512:
		squaresAVX512(sum, x, shift, n)
	case AVX2:
		squaresAVX2(sum, x, shift, n)
	default:
		squaresPortable(sum, x, shift, n)
	}
}

func (l Level) products(sum *float64, dy, x *float32, shift *float64, n int) {
	switch l {
	case AVX512:
		productsAVX512(sum, dy, x, shift, n)
	case AVX2:
		productsAVX2(sum, dy, x, shift, n)
	default:
		productsPortable(sum, dy, x, shift, n)
	}
}

func (l Level) normBackward(dx, dy, x, k *float32, n int, add bool) {
	switch l {
	case AVX512:
		normBackwardAVX512(dx, dy, x, k, n, add)
	case AVX2:
		normBackwardAVX2(dx, dy, x, k, n, add)
	default:
		normBackwardPortable(dx, dy, x, k, n, add)
	}
}

func (l Level) relu(dst, x *float32, n int) {
	switch l {
	case AVX512:
		reluAVX512(dst, x, n)
	case AVX2:
		reluAVX2(dst, x, n)
	default:
		reluPortable(dst, x, n)
	}
}

func (l Level) reluGrad(dx, y, dy *float32, n int, add bool) {
	switch l {
	case AVX512:
		reluGradAVX512(dx, y, dy, n, add)
	case AVX2:
		reluGradAVX2(dx, y, dy, n, add)
	default:
		reluGradPortable(dx, y, dy, n, add)
	}
}

func (l Level) or(dst, src *uint16, n int) {
	switch l {
	case AVX512:
		orAVX512(dst, src, n)
	case AVX2:
		orAVX2(dst, src, n)
	default:
		orPortable(dst, src, n)
	}
}

func (l Level) count(w *windowRun) {
	switch l {
	case AVX512:
		countAVX512(w)
	case AVX2:
		countAVX2(w)
	default:
		countPortable(w)
	}
}

func (l Level) average(w *windowRun) {
	switch l {
	case AVX512:
		averageAVX512(w)
	case AVX2:
		averageAVX2(w)
	default:
		averagePortable(w)
	}
}

func (l Level) spread(w *windowRun) {
	switch l {
	case AVX512:
		spreadAVX512(w)
	case AVX2:
		spreadAVX2(w)
	default:
		spreadPortable(w)
	}
}

func (l Level) sgd(w, dw, v *float32, k *sgdStep, n int, nesterov bool) {
	switch l {
	case AVX512:
		sgdAVX512(w, dw, v, k, n, nesterov)
	case AVX2:
		sgdAVX2(w, dw, v, k, n, nesterov)
	default:
		sgdPortable(w, dw, v, k, n, nesterov)
	}
}

func (l Level) largest(w *windowRun) {
	switch l {
	case AVX512:
		largestAVX512(w)
	case AVX2:
		largestAVX2(w)
	default:
		largestPortable(w)
	}
}

func (l Level) adam(w, dw, m, v *float32, k *AdamStep, n int) {
	switch l {
	case AVX512:
		adamAVX512(w, dw, m, v, k, n)
	case AVX2:
		adamAVX2(w, dw, m, v, k, n)
	default:
		adamPortable(w, dw, m, v, k, n)
	}
}

func (l Level) extrapolate(dst, x *float32, beta float32, n int) {
	switch l {
	case AVX512:
		extrapolateAVX512(dst, x, beta, n)
	case AVX2:
		extrapolateAVX2(dst, x, beta, n)
	default:
		extrapolatePortable(dst, x, beta, n)
	}
}

func (l Level) dot(sum *float64, a, b *float32, n int) {
	switch l {
	case AVX512:
		dotAVX512(sum, a, b, n)
	case AVX2:
		dotAVX2(sum, a, b, n)
	default:
		dotPortable(sum, a, b, n)
	}
}

func (l Level) combine(dst, x, y *float32, a, b float32, n int) {
	switch l {
	case AVX512:
		combineAVX512(dst, x, y, a, b, n)
	case AVX2:
		combineAVX2(dst, x, y, a, b, n)
	default:
		combinePortable(dst, x, y, a, b, n)
	}
}

func (l Level) random(r *Random, dst *uint64) {
	switch l {
	case AVX512:
		chacha8AVX512(dst, &r.seed[0])
	case AVX2:
		chacha8AVX2(dst, &r.seed[0])
	default:
		randomPortable(r, dst)
	}
}

func (l Level) limits(always []uint16, limits []uint64, p []float32, channels int) {
	if groups := len(always) / Lanes; groups > 0 && l > Portable {
		limitsAVX2(&always[0], &limits[0], &p[0], groups, channels)
		pixels := groups * Lanes
		always, limits, p = always[pixels:], limits[fours(pixels)*channels:], p[pixels*Lanes:]
	}
	limitsPortable(always, limits, p, channels)
}

func (l Level) draw(s, always []uint16, limits, random []uint64, channels int) {
	if groups := len(s) / Lanes; groups > 0 && l > Portable {
		drawAVX2(&s[0], &always[0], &limits[0], &random[0], groups, channels)
		pixels := groups * Lanes
		s, always, limits, random = s[pixels:], always[pixels:], limits[fours(pixels)*channels:], random[fours(pixels)*channels:]
	}
	drawPortable(s, always, limits, random, channels)
}

func (l Level) sigmoidSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		sigmoidSlopeAVX512(dst, u, k, n)
	case AVX2:
		sigmoidSlopeAVX2(dst, u, k, n)
	default:
		sigmoidSlopePortable(dst, u, k, n)
	}
}

func (l Level) exponentialSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		exponentialSlopeAVX512(dst, u, k, n)
	case AVX2:
		exponentialSlopeAVX2(dst, u, k, n)
	default:
		exponentialSlopePortable(dst, u, k, n)
	}
}

func (l Level) gaussianSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		gaussianSlopeAVX512(dst, u, k, n)
	case AVX2:
		gaussianSlopeAVX2(dst, u, k, n)
	default:
		gaussianSlopePortable(dst, u, k, n)
	}
}

func (l Level) arctanSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		arctanSlopeAVX512(dst, u, k, n)
	case AVX2:
		arctanSlopeAVX2(dst, u, k, n)
	default:
		arctanSlopePortable(dst, u, k, n)
	}
}

func (l Level) adaptiveSlope(u, m, d *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		adaptiveSlopeAVX512(u, m, d, k, n)
	case AVX2:
		adaptiveSlopeAVX2(u, m, d, k, n)
	default:
		adaptiveSlopePortable(u, m, d, k, n)
	}
}

func (l Level) fastSigmoidSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		fastSigmoidSlopeAVX512(dst, u, k, n)
	case AVX2:
		fastSigmoidSlopeAVX2(dst, u, k, n)
	default:
		fastSigmoidSlopePortable(dst, u, k, n)
	}
}

func (l Level) triangleSlope(dst, u *float32, k *slopes, n int) {
	switch l {
	case AVX512:
		triangleSlopeAVX512(dst, u, k, n)
	case AVX2:
		triangleSlopeAVX2(dst, u, k, n)
	default:
		triangleSlopePortable(dst, u, k, n)
	}
}
