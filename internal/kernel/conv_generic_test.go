//go:build (!amd64 && !arm64) || purego

package kernel

import "testing"

// What drives the routines of AVX-512 is right on any machine: here its routines are their
// twins, whose vectors are as wide.
func TestWideDrivers(t *testing.T) {
	was := level.Swap(int32(AVX512))
	defer level.Store(was)
	for i, c := range convCases() {
		if c.Frames*c.Hout*c.Wout*c.KH*c.KW*c.Cin*c.Cout > 2e6 {
			continue
		}
		checkConv(t, newOperands(c, 1, uint64(i)), 1+i%3)
		checkConv(t, newOperands(c, .2, uint64(i)), 1+i%3)
	}
}
