package attack

// shared reports whether the frames of an example share a perturbation.
func (p *part) shared() bool { return p.delta.Data != nil }

// point returns what a step moves: image i, or the perturbation that its frames share.
func (p *part) point(i int) []float32 {
	if p.shared() {
		return p.delta.Image(i)
	}
	return p.adv.Image(i)
}

// along returns the gradient of a point, of which g is that of the image.
func (p *part) along(g []float32) []float32 {
	if !p.shared() {
		return g
	}
	sum := make([]float32, p.delta.Pixels())
	for k := range sum {
		var s float64
		for i := k; i < len(g); i += len(sum) {
			s += float64(g[i])
		}
		sum[k] = float32(s)
	}
	return sum
}

// project projects a point, and makes image i of it.
func (a *Attack) project(p *part, i int) {
	image, x := p.adv.Image(i), p.x.Image(i)
	if !p.shared() {
		a.Norm.Project(image, x, a.Eps)
		clip(image)
		return
	}
	delta := p.delta.Image(i)
	a.Norm.Project(delta, make([]float32, len(delta)), a.Eps)
	for k, v := range x {
		image[k] = v + delta[k%len(delta)]
	}
	for at := 0; at < len(x); at += len(delta) {
		a.Norm.Project(image[at:][:len(delta)], x[at:][:len(delta)], a.Eps) // x + δ is rounded
	}
	clip(image)
}
