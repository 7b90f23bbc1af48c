package attack

// climber is the point of a search that asks for logits alone.
type climber struct {
	*path
	kept      []float32 // the point that the search has come to
	margin    float32   // of kept
	low, high []float32 // the ends of an L∞ ball, for each value of point
	frames    int       // of point: 1 if frames share a perturbation
	channels  int
	h, w      int
}

// area is a square of pixels in some of the frames.
type area struct {
	from, to int // frames
	y, x     int
	side     int
}

// covers reports whether a pixel is in the square.
func (a area) covers(y, x int) bool {
	return y >= a.y && y < a.y+a.side && x >= a.x && x < a.x+a.side
}

// newClimber returns a climber at the best point of the attacks before, or at the original.
func newClimber(o *Oracle, fromBest, shared bool) *climber {
	var start Start = AtImage{}
	if fromBest {
		start = AtBest{}
	}
	a := Attack{Norm: o.Threat.Norm, Eps: o.Threat.Eps, Start: start, SharedFrames: shared}
	c := &climber{path: a.newPath(o, 0), channels: o.Shape.C, h: o.Shape.H, w: o.Shape.W}
	n := len(c.point)
	c.frames = n / (c.channels * c.h * c.w)
	c.kept, c.low, c.high = make([]float32, n), make([]float32, n), make([]float32, n)
	for i, v := range c.ball.Center {
		c.low[i], c.high[i] = offset(v, -float64(c.ball.Eps)), offset(v, float64(c.ball.Eps))
	}
	if c.ball.image {
		clip(c.low)
		clip(c.high)
	}
	return c
}

// start asks about the first point.
func (c *climber) start() (err error) {
	c.margin, err = c.ask()
	copy(c.kept, c.point)
	return err
}

// ask returns the margin of the point.
func (c *climber) ask() (float32, error) {
	c.project()
	z, err := c.of.Logits(c.image)
	if err != nil {
		return 0, err
	}
	margin, _ := c.of.score(z)
	return margin, nil
}

// keepUnlessWorse asks about the point and returns by how much its margin is higher than that of
// the point before. If it is higher, it goes back to the point before. It keeps a point of the
// same margin: a piecewise-constant network has equal margins over whole regions, which a search
// has to cross.
func (c *climber) keepUnlessWorse() (change float32, err error) {
	margin, err := c.ask()
	if err != nil {
		return 0, err
	}
	change = margin - c.margin
	if change > 0 {
		copy(c.point, c.kept)
		return change, nil
	}
	c.margin = margin
	copy(c.kept, c.point)
	return change, nil
}

// indices appends the indices of the values of a channel in an area to dst. Pixels of the area
// beyond the image have none.
func (c *climber) indices(dst []int, a area, channel int) []int {
	for t := a.from; t < a.to; t++ {
		for y := a.y; y < min(a.y+a.side, c.h); y++ {
			row := ((t*c.channels+channel)*c.h + y) * c.w
			for x := a.x; x < min(a.x+a.side, c.w); x++ {
				dst = append(dst, row+x)
			}
		}
	}
	return dst
}

// toEnd moves the values of a channel in an area to the upper or the lower end of the ball. It
// reports whether that changes one.
func (c *climber) toEnd(a area, channel int, up bool) (changed bool) {
	end := c.low
	if up {
		end = c.high
	}
	for t := a.from; t < a.to; t++ {
		for y := a.y; y < min(a.y+a.side, c.h); y++ {
			row := ((t*c.channels+channel)*c.h + y) * c.w
			for i := row + a.x; i < row+min(a.x+a.side, c.w); i++ {
				changed = changed || c.point[i] != end[i]
				c.point[i] = end[i]
			}
		}
	}
	return changed
}
