//go:build !purego

package kernel

var buildLevels = []Level{Portable, NEON}

const maxLevel = NEON

func (l Level) tile(a *tile) {
	if l == NEON {
		tileNEON(a)
		return
	}
	tilePortable(a)
}

func (l Level) gather(a *gather) {
	if l == NEON {
		gatherNEON(a)
		return
	}
	gatherPortable(a)
}

func (l Level) scatterSpikes3(a *scatter3) {
	if l == NEON {
		scatterSpikes3NEON(a)
		return
	}
	scatterSpikes3Portable(a)
}

func (l Level) scatterValues3(a *scatter3) {
	if l == NEON {
		scatterValues3NEON(a)
		return
	}
	scatterValues3Rounded(a)
}

func (l Level) outerSpikes3(a *outer3) {
	if l == NEON {
		outerSpikes3NEON(a)
		return
	}
	outerSpikes3Portable(a)
}

func (l Level) outerValues3(a *outer3) {
	if l == NEON {
		outerValues3NEON(a)
		return
	}
	outerValues3Rounded(a)
}

func (l Level) sampled3(a *sampled3) {
	if l == NEON {
		sampled3NEON(a)
		return
	}
	sampled3Rounded(a)
}

func (l Level) transpose16(dst, src *float32, dstRow, srcRow uintptr) {
	if l == NEON {
		transpose16NEON(dst, src, dstRow, srcRow)
		return
	}
	transpose16Portable(dst, src, dstRow, srcRow)
}

func (l Level) transposeAhead16(dst, src *float32, dstRow, srcRow, _ uintptr) {
	if l == NEON {
		transpose16NEON(dst, src, dstRow, srcRow)
		return
	}
	transpose16Portable(dst, src, dstRow, srcRow)
}

func (l Level) transposeBits(dst *uint64, src *uint16, words, dstLane uintptr) {
	if l == NEON {
		transposeBitsNEON(dst, src, words, dstLane)
		return
	}
	transposeBitsPortable(dst, src, words, dstLane)
}

func (l Level) groupValues(a *groupValues) {
	if l == NEON {
		groupValuesNEON(a)
		return
	}
	groupValuesPortable(a)
}

func (l Level) neuronForward(r *neuronRun) {
	if l == NEON {
		neuronForwardNEON(r)
		return
	}
	neuronForwardPortable(r)
}

func (l Level) neuronSupport(r *neuronRun) {
	if l == NEON {
		neuronSupportNEON(r)
		return
	}
	neuronSupportPortable(r)
}

func (l Level) neuronMembranes(r *neuronRun) {
	if l == NEON {
		neuronMembranesNEON(r)
		return
	}
	neuronMembranesPortable(r)
}

func (l Level) neuronBackward(r *neuronRun) {
	if l == NEON {
		neuronBackwardNEON(r)
		return
	}
	neuronBackwardPortable(r)
}

func (l Level) glifForward(r *glifRun) {
	if l == NEON {
		glifForwardNEON(r)
		return
	}
	glifForwardPortable(r)
}

func (l Level) glifSupport(r *glifRun) {
	if l == NEON {
		glifSupportNEON(r)
		return
	}
	glifSupportPortable(r)
}

func (l Level) glifReplay(r *glifRun) {
	if l == NEON {
		glifReplayNEON(r)
		return
	}
	glifReplayPortable(r)
}

func (l Level) glifBackward(r *glifRun) {
	if l == NEON {
		glifBackwardNEON(r)
		return
	}
	glifBackwardPortable(r)
}

func (l Level) mask(dst, src *float32, mask *uint16, c *float32, n int, add bool) {
	if l == NEON {
		maskNEON(dst, src, mask, c, n, add)
		return
	}
	maskPortable(dst, src, mask, c, n, add)
}

func (l Level) scale(dst, src, c *float32, n int, add bool) {
	if l == NEON {
		scaleNEON(dst, src, c, n, add)
		return
	}
	scalePortable(dst, src, c, n, add)
}

func (l Level) affine(dst, x, a, b *float32, n int) {
	if l == NEON {
		affineNEON(dst, x, a, b, n)
		return
	}
	affinePortable(dst, x, a, b, n)
}

func (Level) halve(low, high, src *float32, n int) { halvePortable(low, high, src, n) }

func (l Level) sum(sum *float64, x *float32, n int) {
	if l == NEON {
		sumNEON(sum, x, n)
		return
	}
	sumPortable(sum, x, n)
}

func (l Level) squares(sum *float64, x *float32, shift *float64, n int) {
	if l == NEON {
		squaresNEON(sum, x, shift, n)
		return
	}
	squaresPortable(sum, x, shift, n)
}

func (l Level) products(sum *float64, dy, x *float32, shift *float64, n int) {
	if l == NEON {
		productsNEON(sum, dy, x, shift, n)
		return
	}
	productsPortable(sum, dy, x, shift, n)
}

func (l Level) normBackward(dx, dy, x, k *float32, n int, add bool) {
	if l == NEON {
		normBackwardNEON(dx, dy, x, k, n, add)
		return
	}
	normBackwardPortable(dx, dy, x, k, n, add)
}

func (l Level) relu(dst, x *float32, n int) {
	if l == NEON {
		reluNEON(dst, x, n)
		return
	}
	reluPortable(dst, x, n)
}

func (l Level) reluGrad(dx, y, dy *float32, n int, add bool) {
	if l == NEON {
		reluGradNEON(dx, y, dy, n, add)
		return
	}
	reluGradPortable(dx, y, dy, n, add)
}

func (l Level) or(dst, src *uint16, n int) {
	if l == NEON {
		orNEON(dst, src, n)
		return
	}
	orPortable(dst, src, n)
}

func (l Level) count(w *windowRun) {
	if l == NEON {
		countNEON(w)
		return
	}
	countPortable(w)
}

func (l Level) average(w *windowRun) {
	if l == NEON {
		averageNEON(w)
		return
	}
	averagePortable(w)
}

func (l Level) spread(w *windowRun) {
	if l == NEON {
		spreadNEON(w)
		return
	}
	spreadPortable(w)
}

func (l Level) sgd(w, dw, v *float32, k *sgdStep, n int, nesterov bool) {
	if l == NEON {
		sgdNEON(w, dw, v, k, n, nesterov)
		return
	}
	sgdPortable(w, dw, v, k, n, nesterov)
}

func (l Level) largest(w *windowRun) {
	if l == NEON {
		largestNEON(w)
		return
	}
	largestPortable(w)
}

func (l Level) adam(w, dw, m, v *float32, k *AdamStep, n int) {
	if l == NEON {
		adamNEON(w, dw, m, v, k, n)
		return
	}
	adamPortable(w, dw, m, v, k, n)
}

func (l Level) extrapolate(dst, x *float32, beta float32, n int) {
	if l == NEON {
		extrapolateNEON(dst, x, beta, n)
		return
	}
	extrapolatePortable(dst, x, beta, n)
}

func (l Level) dot(sum *float64, a, b *float32, n int) {
	if l == NEON {
		dotNEON(sum, a, b, n)
		return
	}
	dotPortable(sum, a, b, n)
}

func (l Level) combine(dst, x, y *float32, a, b float32, n int) {
	if l == NEON {
		combineNEON(dst, x, y, a, b, n)
		return
	}
	combinePortable(dst, x, y, a, b, n)
}

func (Level) random(r *Random, dst *uint64) { randomPortable(r, dst) }

func (Level) limits(always []uint16, limits []uint64, p []float32, channels int) {
	limitsPortable(always, limits, p, channels)
}

func (Level) draw(s, always []uint16, limits, random []uint64, channels int) {
	drawPortable(s, always, limits, random, channels)
}

func (l Level) sigmoidSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		sigmoidSlopeNEON(dst, u, k, n)
		return
	}
	sigmoidSlopePortable(dst, u, k, n)
}

func (l Level) exponentialSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		exponentialSlopeNEON(dst, u, k, n)
		return
	}
	exponentialSlopePortable(dst, u, k, n)
}

func (l Level) gaussianSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		gaussianSlopeNEON(dst, u, k, n)
		return
	}
	gaussianSlopePortable(dst, u, k, n)
}

func (l Level) arctanSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		arctanSlopeNEON(dst, u, k, n)
		return
	}
	arctanSlopePortable(dst, u, k, n)
}

func (l Level) adaptiveSlope(u, m, d *float32, k *slopes, n int) {
	if l == NEON {
		adaptiveSlopeNEON(u, m, d, k, n)
		return
	}
	adaptiveSlopePortable(u, m, d, k, n)
}

func (l Level) fastSigmoidSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		fastSigmoidSlopeNEON(dst, u, k, n)
		return
	}
	fastSigmoidSlopePortable(dst, u, k, n)
}

func (l Level) triangleSlope(dst, u *float32, k *slopes, n int) {
	if l == NEON {
		triangleSlopeNEON(dst, u, k, n)
		return
	}
	triangleSlopePortable(dst, u, k, n)
}

func (Level) winogradWeights(a *winogradLines) { winogradWeightsRounded(a) }
func (Level) winogradDeltas(a *winogradLines)  { winogradDeltasRounded(a) }
func (Level) winogradSums(a *winogradLines)    { winogradSumsRounded(a) }
