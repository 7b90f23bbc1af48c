package kernel

func (Level) neuronForward(r *neuronRun)   { neuronForwardPortable(r) }
func (Level) neuronMembranes(r *neuronRun) { neuronMembranesPortable(r) }
func (Level) neuronBackward(r *neuronRun)  { neuronBackwardPortable(r) }
func (Level) mask(dst, src *float32, mask *uint16, c *[Lanes]float32, n int, add bool) {
	maskPortable(dst, src, mask, c, n, add)
}
