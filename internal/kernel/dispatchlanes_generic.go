//go:build !amd64 || purego

package kernel

func (Level) neuronForward(r *neuronRun)   { neuronForwardPortable(r) }
func (Level) neuronMembranes(r *neuronRun) { neuronMembranesPortable(r) }
func (Level) neuronBackward(r *neuronRun)  { neuronBackwardPortable(r) }
func (Level) mask(dst, src *float32, mask *uint16, c *float32, n int, add bool) {
	maskPortable(dst, src, mask, c, n, add)
}
func (Level) fold(sum *float64, v *float32, n int)        { foldPortable(sum, v, n) }
func (Level) scale(dst, src, c *float32, n int, add bool) { scalePortable(dst, src, c, n, add) }
