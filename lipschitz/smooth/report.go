package smooth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/internal/version"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Config says how to evaluate.
type Config struct {
	Key rng.Key // of all random numbers
	// Progress, if not nil, is called after every image with the number of images that are done
	// and of all.
	Progress func(done, total int)
}

// Report is the result of an evaluation. Its accuracies are those of the smoothed network, which
// is another one than the network that it is made of. A Report read back from its JSON is equal
// to the original.
type Report struct {
	Method       string        `json:"method"`       // with its settings
	Images       int           `json:"images"`       // number evaluated: all, unless the evaluation was stopped
	Labels       []int         `json:"labels"`       // [Images]
	Certificates []Certificate `json:"certificates"` // [Images]
	Key          string        `json:"key"`          // Config.Key in hexadecimal digits
	Library      string        `json:"library"`      // version of this library
}

// Evaluate certifies every image of data, or every example of several frames. The id of an image is
// its number in the data.
//
// If ctx is done, Evaluate returns ctx's error with the report of the images that are complete.
// Every other error comes with a nil report. It names a setting of the method, an image that does
// not fit it, or a data set that does not fit the network.
func Evaluate(ctx context.Context, m *snn.Model, data snn.Dataset, method Method, cfg Config) (*Report, error) {
	if err := m.ValidateDataset(data); err != nil {
		return nil, fmt.Errorf("smooth: %w", err)
	}
	shape := data.Shape()
	r := &Report{Method: method.String(), Key: hex.EncodeToString(cfg.Key[:]), Library: version.String()}
	total := shape.N
	shape.N = 1
	x := tensor.NewFrames(shape)
	for i := range total {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		if err := data.Fill(x, []int{i}); err != nil {
			return nil, fmt.Errorf("smooth: image %d of the data: %w", i, err)
		}
		c, err := method.Certify(ctx, m, x, []uint64{uint64(i)}, cfg.Key)
		switch {
		case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return r, ctx.Err()
		case err != nil:
			return nil, fmt.Errorf("image %d of the data: %w", i, err)
		}
		r.Images++
		r.Labels = append(r.Labels, data.Label(i))
		r.Certificates = append(r.Certificates, c...)
		if cfg.Progress != nil {
			cfg.Progress(r.Images, total)
		}
	}
	return r, nil
}

// Correct returns the number of images whose class is the label and cannot change within radius,
// in the unit of the method. For radius 0 it is the number of images that the smoothed network
// classifies as labelled.
func (r *Report) Correct(radius float64) (n int) {
	for i, c := range r.Certificates {
		if c.Class == r.Labels[i] && c.Radius >= radius {
			n++
		}
	}
	return n
}

// Abstained returns the number of images whose class is Abstain.
func (r *Report) Abstained() (n int) {
	for _, c := range r.Certificates {
		if c.Class == Abstain {
			n++
		}
	}
	return n
}

// AverageRadius returns the mean over all images of the certified radius, which counts as 0 for an
// image that is not classified as labelled (Zhai et al.: MACER, ICLR 2020).
func (r *Report) AverageRadius() float64 {
	sum := 0.0
	for i, c := range r.Certificates {
		if c.Class == r.Labels[i] {
			sum += c.Radius
		}
	}
	return sum / float64(max(1, r.Images))
}

// Table returns the certified accuracies in percent at the given radii, as lines of text. Beside
// each stands its 95 % interval by Clopper and Pearson (1934). The interval says how far the
// accuracy may be from that on all images of which the data are a random sample.
func (r *Report) Table(radii ...float64) string {
	t := tables.Table{{"radius", "certified %", "95 % from", "to", "images"}}
	for _, radius := range radii {
		k := r.Correct(radius)
		cells := []string{fmt.Sprint(radius)}
		for _, share := range []float64{
			float64(k) / float64(max(1, r.Images)), lowerBound(k, r.Images, 0.025), 1 - lowerBound(r.Images-k, r.Images, 0.025),
		} {
			cells = append(cells, fmt.Sprintf("%.1f", 100*share))
		}
		t.Add(append(cells, fmt.Sprint(k))...)
	}
	return t.String()
}

// String returns the method, the number of images that the smoothed network leaves open, and the
// average radius.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The network smoothed by %s, which is another network.\n", r.Method)
	fmt.Fprintf(&b, "Images: %d, of which it abstains on %d. Average certified radius: %.4g\n", r.Images, r.Abstained(), r.AverageRadius())
	return b.String()
}
