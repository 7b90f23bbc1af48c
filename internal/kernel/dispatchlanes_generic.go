//go:build (!amd64 && !arm64) || purego

package kernel

func (Level) neuronForward(r *neuronRun)   { neuronForwardPortable(r) }
func (Level) neuronSupport(r *neuronRun)   { neuronSupportPortable(r) }
func (Level) neuronMembranes(r *neuronRun) { neuronMembranesPortable(r) }
func (Level) neuronBackward(r *neuronRun)  { neuronBackwardPortable(r) }
func (Level) glifForward(r *glifRun)       { glifForwardPortable(r) }
func (Level) glifSupport(r *glifRun)       { glifSupportPortable(r) }
func (Level) glifReplay(r *glifRun)        { glifReplayPortable(r) }
func (Level) glifBackward(r *glifRun)      { glifBackwardPortable(r) }
func (Level) mask(dst, src *float32, mask *uint16, c *float32, n int, add bool) {
	maskPortable(dst, src, mask, c, n, add)
}
func (Level) scale(dst, src, c *float32, n int, add bool) { scalePortable(dst, src, c, n, add) }
func (Level) affine(dst, x, a, b *float32, n int)         { affinePortable(dst, x, a, b, n) }
func (Level) halve(low, high, src *float32, n int)        { halvePortable(low, high, src, n) }
func (Level) sum(sum *float64, x *float32, n int)         { sumPortable(sum, x, n) }
func (Level) squares(sum *float64, x *float32, shift *float64, n int) {
	squaresPortable(sum, x, shift, n)
}
func (Level) products(sum *float64, dy, x *float32, shift *float64, n int) {
	productsPortable(sum, dy, x, shift, n)
}
func (Level) normBackward(dx, dy, x, k *float32, n int, add bool) {
	normBackwardPortable(dx, dy, x, k, n, add)
}
func (Level) relu(dst, x *float32, n int)                  { reluPortable(dst, x, n) }
func (Level) reluGrad(dx, y, dy *float32, n int, add bool) { reluGradPortable(dx, y, dy, n, add) }
func (Level) or(dst, src *uint16, n int)                   { orPortable(dst, src, n) }
func (Level) count(w *windowRun)                           { countPortable(w) }
func (Level) average(w *windowRun)                         { averagePortable(w) }
func (Level) spread(w *windowRun)                          { spreadPortable(w) }
func (Level) sgd(w, dw, v *float32, k *sgdStep, n int, nesterov bool) {
	sgdPortable(w, dw, v, k, n, nesterov)
}
func (Level) largest(w *windowRun)                             { largestPortable(w) }
func (Level) adam(w, dw, m, v *float32, k *AdamStep, n int)    { adamPortable(w, dw, m, v, k, n) }
func (Level) extrapolate(dst, x *float32, beta float32, n int) { extrapolatePortable(dst, x, beta, n) }
func (Level) dot(sum *float64, a, b *float32, n int)           { dotPortable(sum, a, b, n) }
func (Level) combine(dst, x, y *float32, a, b float32, n int) {
	combinePortable(dst, x, y, a, b, n)
}
func (Level) random(r *Random, dst *uint64) { randomPortable(r, dst) }
func (Level) limits(always []uint16, limits []uint64, p []float32, channels int) {
	limitsPortable(always, limits, p, channels)
}
func (Level) draw(s, always []uint16, limits, random []uint64, channels int) {
	drawPortable(s, always, limits, random, channels)
}
func (Level) sigmoidSlope(dst, u *float32, k *slopes, n int) { sigmoidSlopePortable(dst, u, k, n) }
func (Level) exponentialSlope(dst, u *float32, k *slopes, n int) {
	exponentialSlopePortable(dst, u, k, n)
}
func (Level) gaussianSlope(dst, u *float32, k *slopes, n int) { gaussianSlopePortable(dst, u, k, n) }
func (Level) arctanSlope(dst, u *float32, k *slopes, n int)   { arctanSlopePortable(dst, u, k, n) }
func (Level) adaptiveSlope(u, m, d *float32, k *slopes, n int) {
	adaptiveSlopePortable(u, m, d, k, n)
}
func (Level) fastSigmoidSlope(dst, u *float32, k *slopes, n int) {
	fastSigmoidSlopePortable(dst, u, k, n)
}
func (Level) triangleSlope(dst, u *float32, k *slopes, n int) { triangleSlopePortable(dst, u, k, n) }
