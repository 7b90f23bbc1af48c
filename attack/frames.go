package attack

import "slices"

// path is where an attack is on its way from one start.
type path struct {
	image []float32 // the attacked image
	// point is what a step moves: the image, or the perturbation that its frames share.
	point []float32
	ball  Ball // of point
	of    *Oracle
}

// newPath returns the path from a start.
func (a *Attack) newPath(o *Oracle, start int) *path {
	from := o.Clean
	if _, ok := a.Start.(AtBest); ok {
		from, _ = o.Best()
	}
	p := &path{image: slices.Clone(from), ball: o.Ball(), of: o}
	p.point = p.image
	if a.SharedFrames && o.Shape.Steps > 1 {
		p.point = make([]float32, len(p.image)/o.Shape.Steps)
		p.ball = Ball{Norm: a.Norm, Eps: a.Eps, Center: make([]float32, len(p.point))}
		for i, v := range from { // clip makes the perturbation of some frames smaller
			k := i % len(p.point)
			if d := v - o.Clean[i]; max(d, -d) > max(p.point[k], -p.point[k]) {
				p.point[k] = d
			}
		}
	}
	a.Start.Initialize(p.point, a.Norm, a.Eps, o.Rand("start", uint64(start)))
	p.ball.Project(p.point)
	p.project()
	return p
}

// shared reports whether the frames of the example share a perturbation.
func (p *path) shared() bool { return len(p.point) < len(p.image) }

// along returns the gradient of the point, of which g is that of the image.
func (p *path) along(g []float32) []float32 {
	if !p.shared() {
		return g
	}
	sum := make([]float32, len(p.point))
	for k := range sum {
		var s float64
		for i := k; i < len(g); i += len(sum) {
			s += float64(g[i])
		}
		sum[k] = float32(s)
	}
	return sum
}

// project makes the image of a point that the frames share.
func (p *path) project() {
	if !p.shared() {
		return
	}
	x, delta := p.of.Clean, p.point
	for k, v := range x {
		p.image[k] = v + delta[k%len(delta)]
	}
	for at := 0; at < len(x); at += len(delta) {
		p.ball.Norm.Project(p.image[at:][:len(delta)], x[at:][:len(delta)], p.ball.Eps) // x + δ is rounded
	}
	clip(p.image)
}
