//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

var buildLevels = []Level{Portable, AVX2, AVX512}

var maxLevel = func() Level {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasBMI1 || !x.HasBMI2:
		return Portable
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return AVX2
	}
	return AVX512
}()

func (l Level) tile(a *tile) {
	switch l {
	case AVX512:
		tileAVX512(a)
	case AVX2:
		tileAVX2(a)
	default:
		tilePortable(a)
	}
}

func (l Level) gather(a *gather) {
	switch l {
	case AVX512:
		gatherAVX512(a)
	case AVX2:
		gatherAVX2(a)
	default:
		gatherPortable(a)
	}
}

func (l Level) scatterSpikes3(a *scatter3) {
	switch l {
	case AVX512:
		if a.blocks == 2 {
			scatterSpikes3x2AVX512(a)
			return
		}
		scatterSpikes3AVX512(a)
	case AVX2:
		scatterSpikes3AVX2(a)
	default:
		scatterSpikes3Portable(a)
	}
}

func (l Level) scatterValues3(a *scatter3) {
	switch l {
	case AVX512:
		if a.blocks == 2 {
			scatterValues3x2AVX512(a)
			return
		}
		scatterValues3AVX512(a)
	case AVX2:
		scatterValues3AVX2(a)
	default:
		scatterValues3Rounded(a)
	}
}

func (l Level) outerSpikes3(a *outer3) {
	switch l {
	case AVX512:
		outerSpikes3AVX512(a)
	case AVX2:
		outerSpikes3AVX2(a)
	default:
		outerSpikes3Portable(a)
	}
}

func (l Level) outerValues3(a *outer3) {
	switch l {
	case AVX512:
		outerValues3AVX512(a)
	case AVX2:
		outerValues3AVX2(a)
	default:
		outerValues3Rounded(a)
	}
}

func (l Level) transpose16(dst, src *float32, dstRow, srcRow uintptr) {
	l.transposeAhead16(dst, src, dstRow, srcRow, 0)
}

func (l Level) transposeAhead16(dst, src *float32, dstRow, srcRow, ahead uintptr) {
	switch l {
	case AVX512:
		transpose16AVX512(dst, src, dstRow, srcRow, ahead)
	case AVX2:
		transpose16AVX2(dst, src, dstRow, srcRow, ahead)
	default:
		transpose16Portable(dst, src, dstRow, srcRow)
	}
}

func (l Level) transposeBits(dst *uint64, src *uint16, words, dstLane uintptr) {
	switch l {
	case AVX512:
		transposeBitsAVX512(dst, src, words, dstLane)
	case AVX2:
		transposeBitsAVX2(dst, src, words, dstLane)
	default:
		transposeBitsPortable(dst, src, words, dstLane)
	}
}

func (l Level) groupValues(a *groupValues) {
	switch l {
	case AVX512:
		groupValuesAVX512(a)
	case AVX2:
		groupValuesAVX2(a)
	default:
		groupValuesPortable(a)
	}
}

func (l Level) sampled3(a *sampled3) {
	switch l {
	case AVX512:
		sampled3AVX512(a)
	case AVX2:
		sampled3AVX2(a)
	default:
		sampled3Rounded(a)
	}
}

func (l Level) winogradWeights(a *winogradLines) {
	if l == Portable {
		winogradWeightsRounded(a)
		return
	}
	winogradWeightsAVX2(a)
}

func (l Level) winogradDeltas(a *winogradLines) {
	if l == Portable {
		winogradDeltasRounded(a)
		return
	}
	winogradDeltasAVX2(a)
}

func (l Level) winogradSums(a *winogradLines) {
	if l == Portable {
		winogradSumsRounded(a)
		return
	}
	winogradSumsAVX2(a)
}
