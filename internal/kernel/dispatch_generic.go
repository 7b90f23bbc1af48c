//go:build (!amd64 && !arm64) || purego

package kernel

var buildLevels = []Level{Portable}

const maxLevel = Portable

func (Level) tile(a *tile)               { tilePortable(a) }
func (Level) gather(a *gather)           { gatherPortable(a) }
func (Level) scatterSpikes3(a *scatter3) { scatterSpikes3Portable(a) }
func (Level) scatterValues3(a *scatter3) { scatterValues3Rounded(a) }
func (Level) outerSpikes3(a *outer3)     { outerSpikes3Portable(a) }
func (Level) outerValues3(a *outer3)     { outerValues3Rounded(a) }
func (Level) sampled3(a *sampled3)       { sampled3Rounded(a) }
func (Level) transpose16(dst, src *float32, dstRow, srcRow uintptr) {
	transpose16Portable(dst, src, dstRow, srcRow)
}
func (Level) transposeAhead16(dst, src *float32, dstRow, srcRow, _ uintptr) {
	transpose16Portable(dst, src, dstRow, srcRow)
}
func (Level) transposeBits(dst *uint64, src *uint16, words, dstLane uintptr) {
	transposeBitsPortable(dst, src, words, dstLane)
}
func (Level) groupValues(a *groupValues)       { groupValuesPortable(a) }
func (Level) winogradWeights(a *winogradLines) { winogradWeightsRounded(a) }
func (Level) winogradDeltas(a *winogradLines)  { winogradDeltasRounded(a) }
func (Level) winogradSums(a *winogradLines)    { winogradSumsRounded(a) }
