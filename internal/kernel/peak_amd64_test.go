//go:build !purego

package kernel

// peakRound runs rounds of independent multiply-adds on registers and returns their
// FLOPs.
func peakRound(l Level, rounds int) float64 {
	switch l {
	case AVX512:
		peakAVX512(rounds)
		return float64(rounds) * 24 * 16 * 2
	case AVX2:
		peakAVX2(rounds)
		return float64(rounds) * 12 * 8 * 2
	}
	return 0
}
