package attack_test

import (
	"cmp"
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/fashion"
)

// lastLogit is an objective of one's own: the negative logit of the label.
type lastLogit struct{}

func (lastLogit) Evaluate(value []float64, grad, logits []float32, y, _ []int) {
	value[0], grad[y[0]] = -float64(logits[y[0]]), -1 // an attack evaluates one image at a time
}

// twoRules is a gradient of one's own: through the rate in the first layer of neurons, and
// through time in the others.
type twoRules struct{ snn.BPTT }

func (twoRules) String() string { return "rate, then time" }

func (g twoRules) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	if n.Name() == "features.2" {
		return snn.BPTR{}.Fire(p, n, current)
	}
	return g.BPTT.Fire(p, n, current)
}

// stripes is an attack of one's own: random stripes of ±ε around the best point so far.
type stripes struct {
	attack.LInf
	eps     float32
	queries int
}

func (s stripes) Threat() (attack.Threat, bool) { return attack.Threat{Norm: s.LInf, Eps: s.eps}, true }

func (s stripes) Search(o *attack.Oracle) error {
	r, ball := o.Rand("stripes", 0), o.Ball()
	for range s.queries {
		best, _ := o.Best()
		x := append([]float32(nil), best...)
		column, by := r.IntN(o.Shape.W), s.eps*float32(2*r.IntN(2)-1)
		for i := column; i < len(x); i += o.Shape.W {
			x[i] = o.Clean[i] + by
		}
		ball.Project(x)
		if _, err := o.Logits(x); err != nil { // the oracle keeps x if it is better
			return err
		}
	}
	return nil
}

func (s stripes) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return attack.PerturbEach(ctx, s, m, x, y, ids, key)
}

// A battery with an objective, a gradient and an attack from outside the package.
func ExampleBattery() {
	model, _, errModel := zoo.Load("testdata/fashion_plain.safetensors")
	test, err := fashion.Test()
	if err == nil {
		test, err = test.First(40)
	}
	if err := cmp.Or(errModel, err); err != nil {
		log.Fatal(err)
	}
	threat := attack.Threat{Norm: attack.LInf{}, Eps: 16. / 255}
	apgd := &attack.Attack{
		Objective: lastLogit{}, Gradient: twoRules{}, Norm: threat.Norm, Start: attack.InBall{}, Eps: threat.Eps,
		Rule: attack.APGD{}, Steps: 10, KeepBest: true,
	}
	battery := attack.Battery{Threat: threat, Attacks: []attack.Named{
		{Name: "APGD", Attack: apgd}, {Name: "stripes", Attack: stripes{eps: threat.Eps, queries: 50}},
	}}
	report, err := battery.Evaluate(context.Background(), model, test, attack.DefaultBatteryConfig())
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range report.Attacks {
		fmt.Println(a.Name, "broke an image:", a.Broke > 0)
	}
	// Output:
	// APGD broke an image: true
	// stripes broke an image: true
}
