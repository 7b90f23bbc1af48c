package certify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Verdict is what is known about an image and its ball.
type Verdict string

// The verdicts.
const (
	Certified Verdict = "certified" // a proof: the network gives every image of the ball the label
	Broken    Verdict = "broken"    // an image of the ball that the network gives another class
	Unknown   Verdict = "unknown"   // neither, after the effort of the configuration
)

// Searcher looks for an image that the network misclassifies. Attacks satisfy it by a function
// of one line, see [SearchFunc].
type Searcher interface {
	// Search returns images in the shape of x, one for each of x. Image i lies within eps of
	// image i of x, in the maximum norm, and its values lie in [0,1]. y has the labels.
	Search(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, eps float32) (tensor.NCHW, error)
}

// SearchFunc is a function that is a [Searcher].
type SearchFunc func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, eps float32) (tensor.NCHW, error)

// Search implements [Searcher].
func (f SearchFunc) Search(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, eps float32) (tensor.NCHW, error) {
	return f(ctx, m, x, y, eps)
}

// Config says what [Certify] proves and how.
type Config struct {
	// Epsilon is the radius of the ball in the maximum norm, in units of the image, at least 0.
	// If float32(Epsilon) is larger than Epsilon, the ball has that radius.
	Epsilon float64
	// Method computes the bounds. Nil stands for Linear{}, the tightest.
	Method Method
	// Search looks for a counterexample where the bounds prove nothing. It may be nil.
	Search Searcher
}

// Validate returns an error that names the field that is out of range.
func (c Config) Validate() error {
	if !(c.Epsilon >= 0) || math.IsInf(c.Epsilon, 0) {
		return fmt.Errorf("certify: Epsilon %v: expected a finite number of at least 0", c.Epsilon)
	}
	return nil
}

// Result is what [Certify] found out about one image.
type Result struct {
	Verdict   Verdict
	Label     int // y
	Predicted int // the class that the network gives the image itself
	// Margin is a proven lower bound of logit_y − logit_j over the ball, for the class j ≠ y with
	// the least bound. The bound includes rounding. If it is positive, the image is certified. If
	// it is 0, ties decide: of equal logits, the network's class is the first. It is −Inf without a
	// bound.
	Margin float64
	// Counterexample is the image of a Broken result, [Steps][C][H][W]. The network gives it
	// the class BrokenAs. Both are unset for other verdicts.
	Counterexample []float32
	BrokenAs       int
	// Why says in a sentence what the verdict rests on.
	Why string
}

// Certify tries to prove for each image of x that the network gives every image of its ball the
// label y. The package comment says what the proof covers.
//
// Certify returns an error for a configuration out of range, for images that the model refuses, and
// for a label that is no class. It also returns one for parameters that are not finite, for a random
// encoder, and for a layer without a bound. The error names it. Certify also returns the error of ctx
// and that of Search.
func Certify(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, cfg Config) ([]Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := m.ValidateImages(x); err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	if len(y) != x.N {
		return nil, fmt.Errorf("certify: %d labels for %d images", len(y), x.N)
	}
	for i, y := range y {
		if y < 0 || y >= m.Classes() {
			return nil, fmt.Errorf("certify: image %d: label %d: expected 0 to %d", i, y, m.Classes()-1)
		}
	}
	net, err := compile(m, x.Shape().Steps)
	if err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	if cfg.Method == nil {
		cfg.Method = Linear{}
	}
	logits, err := m.Logits(snn.Pass{}, x)
	if err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	results := make([]Result, x.N)
	for i := range results {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := &results[i]
		r.Label, r.Predicted = y[i], argmax(logits[i*m.Classes():][:m.Classes()])
		if err := certifyImage(ctx, m, net, x.Slice(i, i+1), r, cfg); err != nil {
			return nil, fmt.Errorf("certify: image %d: %w", i, err)
		}
	}
	return results, nil
}

// certifyImage fills in r for the image x.
func certifyImage(ctx context.Context, m *snn.Model, net *network, x tensor.NCHW, r *Result, cfg Config) error {
	r.Margin = math.Inf(-1)
	if r.Predicted != r.Label {
		r.Verdict, r.Why = Broken, "the network misclassifies the image itself"
		r.Counterexample, r.BrokenAs = slices.Clone(x.Data), r.Predicted
		return nil
	}
	ball := ballOf(x.Data, cfg.Epsilon)
	rivals := net.rivals(r.Label)
	margins, err := cfg.Method.margins(newAnalysis(net, ball), r.Label, rivals)
	var overflow *overflowError
	if err != nil && !errors.As(err, &overflow) {
		return err
	}
	if err == nil {
		least, _, open := judge(margins, rivals, r.Label)
		if r.Margin = least; len(open) == 0 {
			r.Verdict, r.Why = Certified, fmt.Sprintf("the bounds of %v prove it", cfg.Method)
			return nil
		}
	}
	r.Verdict, r.Why = Unknown, fmt.Sprintf("the bounds of %v do not prove it", cfg.Method)
	if overflow != nil {
		r.Why = overflow.Error()
	}
	if cfg.Search == nil {
		return nil
	}
	return search(ctx, m, x, ball, r, cfg)
}

// rivals returns all classes but y.
func (net *network) rivals(y int) (list []int) {
	for j := range net.classes {
		if j != y {
			list = append(list, j)
		}
	}
	return list
}

// judge returns the least of the margins of y to rivals, the class that has it, and the rivals that the
// margins do not exclude.
func judge(margins []float64, rivals []int, y int) (least float64, rival int, open []int) {
	least = math.Inf(1)
	for i, j := range rivals {
		v := margins[i]
		if v < least {
			least, rival = v, j
		}
		if !(v > 0 || v == 0 && y < j) {
			open = append(open, j)
		}
	}
	return least, rival, open
}

// search asks cfg.Search for a counterexample and checks what it returns.
func search(ctx context.Context, m *snn.Model, x tensor.NCHW, ball ball, r *Result, cfg Config) error {
	found, err := cfg.Search.Search(ctx, m, x, []int{r.Label}, float32(cfg.Epsilon))
	if err != nil {
		return err
	}
	if err := m.ValidateImages(found); err != nil {
		return fmt.Errorf("the search returned images that do not fit: %w", err)
	}
	if found.Shape() != x.Shape() {
		return fmt.Errorf("the search returned images %v: expected %v", found, x)
	}
	for i, v := range found.Data {
		if v < ball.lo[i] || v > ball.hi[i] {
			return fmt.Errorf("the search returned an image whose value %d, %v, is outside of [%v, %v]", i, v, ball.lo[i], ball.hi[i])
		}
	}
	logits, err := m.Logits(snn.Pass{}, found)
	if err != nil {
		return err
	}
	if class := argmax(logits); class != r.Label {
		r.Verdict, r.Why = Broken, "the search found an image that the network misclassifies"
		r.Counterexample, r.BrokenAs = slices.Clone(found.Data), class
	}
	return nil
}

// argmax returns the index of the first of the largest values.
func argmax(z []float32) int {
	best := 0
	for i, v := range z {
		if v > z[best] {
			best = i
		}
	}
	return best
}

// ball is the set of images with lo ≤ x ≤ hi, [Steps][C][H][W].
type ball struct{ lo, hi []float32 }

// ballOf returns the images with values in [0,1] within eps of x. The bounds are the least and the
// largest float32 values. The radius is at least float32(eps), which attacks use, and allows for a
// distance that is rounded in float64.
func ballOf(x []float32, eps float64) ball {
	eps = max(eps, float64(float32(eps)))
	eps *= 1 + 0x1p-50
	b := ball{make([]float32, len(x)), make([]float32, len(x))}
	for i, v := range x {
		lo, hi := math.Nextafter(float64(v)-eps, -1), math.Nextafter(float64(v)+eps, 2)
		b.lo[i], b.hi[i] = -down32(-max(lo, 0)), down32(min(hi, 1))
		b.lo[i], b.hi[i] = min(b.lo[i], v), max(b.hi[i], v)
	}
	return b
}
