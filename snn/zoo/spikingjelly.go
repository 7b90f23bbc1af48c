package zoo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// sjPool is the height and width of the input of SpikingVGG's classifier.
const sjPool = 7

// isSpikingVGG reports whether cfg is a VGG and the names in a file, after any prefix, are
// SpikingJelly's.
func isSpikingVGG(names []string, cfg Config) bool {
	return !strings.HasPrefix(resolve(cfg.Arch), "WRN") && slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, "features.0.weight")
	})
}

// spikingVGGParams returns the parameters and buffers of a VGG of cfg under the names of
// SpikingJelly's SpikingVGG, which are those of torchvision:
//
//	here             SpikingVGG
//	features.N       features.N
//	classifier.2·I   classifier.3·I, and the neurons behind it
//
// SpikingVGG has adaptive average pooling to 7 × 7 pixels before its first linear layer. Both
// are linear, so their product is a linear layer too. The caller sets params and then calls
// finish, which computes that product as the weights of m's first linear layer.
func spikingVGGParams(names []string, m *snn.Model, cfg Config) (params map[string]*autograd.Param, finish func(), err error) {
	for _, name := range names {
		if strings.HasSuffix(name, ".w") && cfg.Neuron != "plif" {
			return nil, nil, fmt.Errorf("tensor %s: the learned time constant of a ParametricLIFNode: expected Config.Neuron plif", name)
		}
	}
	if cfg.Dropout > 0 {
		return nil, nil, fmt.Errorf("dropout %v: expected 0: SpikingJelly's features have none", cfg.Dropout)
	}
	params = map[string]*autograd.Param{}
	for _, p := range m.State() {
		if !strings.Contains(p.Name, ".") { // of the normalization
			continue
		}
		name := p.Name
		var i int
		var field string
		if n, _ := fmt.Sscanf(name, "classifier.%d.%s", &i, &field); n == 2 {
			name = fmt.Sprintf("classifier.%d.%s", i/2*3+i%2, field)
		}
		params[name] = p
	}
	const first = "classifier.0.weight"
	folded := params[first]
	arch, _, _ := strings.Cut(resolve(cfg.Arch), "|")
	h, w := cfg.Height, cfg.Width
	for _, word := range strings.Fields(arch) {
		if word == "A" || word == "M" {
			h, w = h/2, w/2
		}
	}
	if h == sjPool && w == sjPool {
		return params, func() {}, nil
	}
	outputs, channels := folded.Shape[0], folded.Shape[1]/(h*w)
	if err := fits("a layer with weights", outputs, channels, sjPool, sjPool); err != nil {
		return nil, nil, err
	}
	params[first] = autograd.NewParam(outputs, channels*sjPool*sjPool)
	return params, func() { foldPool(folded, params[first], h, w) }, nil
}

// foldPool sets the weights of a linear layer over h × w pixels to those of adaptive
// average pooling to 7 × 7 pixels followed by a linear layer with the given weights.
// Pixel (i, j) of the pooling is the mean over rows ⌊i·h/7⌋ to ⌈(i+1)·h/7⌉ − 1, and over
// columns likewise.
func foldPool(folded, weights *autograd.Param, h, w int) {
	pixels := make([]float64, folded.Len())
	at := 0
	for v := range weights.Values() {
		plane, i, j := at/(sjPool*sjPool), at/sjPool%sjPool, at%sjPool
		at++
		top, bottom := window(i, h)
		left, right := window(j, w)
		share := float64(v) / float64((bottom-top)*(right-left))
		for y := top; y < bottom; y++ {
			for x := left; x < right; x++ {
				pixels[(plane*h+y)*w+x] += share
			}
		}
	}
	folded.Fill(func(i int) (float32, error) { return float32(pixels[i]), nil })
}

// window returns the range of pixels, lo to hi − 1, that adaptive pooling of n pixels
// averages for its output i.
func window(i, n int) (lo, hi int) { return i * n / sjPool, ((i+1)*n + sjPool - 1) / sjPool }
