package parity

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// network checks a whole network: evaluation, attacks, and one step of training.
func (c *checker) network() error {
	v, err := c.Numbers("T", "leak", "theta", "width", "eps_fgsm", "lr", "sgd_momentum", "weight_decay", "bn_eps", "bn_momentum")
	if err != nil {
		return err
	}
	if v[8] != 1e-5 || v[9] != 0.1 {
		return fmt.Errorf("metadata bn_eps %v and bn_momentum %v: expected those of the zoo's networks, 1e-05 and 0.1", v[8], v[9])
	}
	xt, err := c.Floats("x", 4)
	if err != nil {
		return err
	}
	x, y := images(xt), c.Tensors["y"].Ints
	if len(y) != x.N {
		return fmt.Errorf("%d labels y for %d images", len(y), x.N)
	}
	logits, err := c.Floats("eval.bptt.logits", 2)
	if err != nil {
		return err
	}
	for i, label := range y {
		if label < 0 || label >= logits.Shape[1] {
			return fmt.Errorf("label %d of image %d: expected 0 to %d", label, i, logits.Shape[1]-1)
		}
	}
	m, err := zoo.New(zoo.Config{
		Arch: c.Meta["arch"], WidthMultiplier: 1, Channels: x.C, Height: x.H, Width: x.W, Classes: logits.Shape[1],
		Steps: int(v[0]), Decay: float32(v[1]), Threshold: float32(v[2]),
		Surrogate: c.Meta["surrogate"], SurrogateParam: float32(v[3]), BatchNorm: true,
		Mean: c.Tensors["param.mean"].Floats, Std: c.Tensors["param.std"].Floats,
	}, rng.New(0))
	if err != nil {
		return err
	}
	for _, p := range m.State() {
		t, ok := c.Tensors["param."+p.Name]
		if !ok || len(t.Floats) != p.Len() {
			return fmt.Errorf("expected a tensor param.%s of shape %v", p.Name, p.Shape)
		}
		p.Import(t.Floats)
	}
	for _, g := range []struct {
		name string
		snn.Gradient
	}{{"bptt", snn.BPTT{}}, {"bptr", snn.BPTR{}}, {"cba", snn.CBA{}}} {
		if err := c.evaluate(m, "eval."+g.name+".", g.Gradient, x, y, float32(v[4])); err != nil {
			return err
		}
	}
	return c.train(m, x, y, train.SGD{Momentum: v[6], WeightDecay: v[7]}, v[5])
}

func (c *checker) evaluate(m *snn.Model, prefix string, g snn.Gradient, x tensor.NCHW, y []int, eps float32) error {
	var rates []Result
	p := snn.Pass{Gradient: g, OnSpikes: func(layer string, s *tensor.Spikes) {
		i := len(rates)
		want := c.Tensors["rates"].Floats
		r := Result{Name: fmt.Sprintf("%srates[%d] (%s)", prefix, i, layer), Spikes: 1}
		if i < len(want) {
			n := float64(s.Frames() * s.Neurons())
			r.Spikes = int(math.Abs(math.Round(float64(want[i])*n) - float64(s.Count())))
		}
		rates = append(rates, r)
	}}
	grad, err := m.InputGradient(p, x, func(logits []float32) []float32 {
		c.compare(prefix+"logits", logits)
		loss, d := meanLoss(logits, y)
		c.compare(prefix+"loss", []float32{loss})
		return d
	})
	if err != nil {
		return err
	}
	c.results = append(c.results, rates...)
	c.compare(prefix+"grad_x", grad.Data)

	fgsm := attack.FGSM(eps, g)
	adv, err := fgsm.Perturb(context.Background(), m, x, y, nil, rng.New(0))
	if err != nil {
		return err
	}
	// Where the gradient is within rounding of zero its sign is no statement.
	want, wantGrad := c.Tensors[prefix+"fgsm"].Floats, c.Tensors[prefix+"grad_x"].Floats
	floor := 1e-6 * magnitude(wantGrad)
	for i := range min(len(want), len(wantGrad), len(adv.Data)) {
		if math.Abs(float64(wantGrad[i])) <= floor {
			adv.Data[i] = want[i]
		}
	}
	c.compare(prefix+"fgsm", adv.Data)
	return nil
}

// meanLoss returns the mean cross-entropy and its gradient.
func meanLoss(logits []float32, y []int) (float32, []float32) {
	loss, d := make([]float64, len(y)), make([]float32, len(logits))
	autograd.CrossEntropy(loss, d, logits, y, 0)
	sum := 0.0
	for _, l := range loss {
		sum += l
	}
	for i := range d {
		d[i] /= float32(len(y))
	}
	return float32(sum / float64(len(y))), d
}

// train checks a forward and backward pass with batch statistics, and one update.
func (c *checker) train(m *snn.Model, x tensor.NCHW, y []int, cfg train.SGD, lr float64) error {
	err := m.ParamGradients(snn.Pass{Train: true}, x, func(logits []float32) []float32 {
		c.compare("train.logits", logits)
		loss, d := meanLoss(logits, y)
		c.compare("train.loss", []float32{loss})
		return d
	})
	if err != nil {
		return err
	}
	var largest float64
	for _, p := range m.Params() {
		largest = max(largest, magnitude(c.Tensors["train.grad."+p.Name].Floats))
	}
	zero := c.shiftedAway(m)
	for _, p := range m.Params() {
		name := "train.grad." + p.Name
		t, ok := c.Tensors[name]
		if !ok {
			continue
		}
		scale := magnitude(t.Floats)
		if zero[p] {
			scale = largest
		}
		c.results = append(c.results, Result{Name: name, Err: relative(p.ExportGrad(), t.Floats, scale)})
	}
	opt, err := train.NewUpdater(cfg, m.Params())
	if err != nil {
		return err
	}
	opt.Step(lr, m.Threads)
	for _, p := range m.State() {
		c.compare("train.after1."+p.Name, p.Export())
	}
	return nil
}

// shiftedAway returns the biases that batch norm follows. Its mean takes them away,
// so their gradient is zero, and what is there instead is rounding of sums of the
// network's other gradients, which is the scale to judge it by.
func (c *checker) shiftedAway(m *snn.Model) map[*autograd.Param]bool {
	zero := map[*autograd.Param]bool{}
	rows := m.Summary().Rows
	for i, r := range rows[:len(rows)-1] {
		if rows[i+1].Kind != "batch norm" {
			continue
		}
		for _, p := range r.Params {
			if strings.HasSuffix(p.Name, ".bias") && strings.HasPrefix(r.Kind, "conv") {
				zero[p] = true
			}
		}
	}
	return zero
}
