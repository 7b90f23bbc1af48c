package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

// The code of docs/attack.md is this file's and that of the other tests named here.
func TestHowTo(t *testing.T) {
	doctest.Page(t, "../docs/attack.md", 13, "howto_test.go", "reading_test.go", "example_battery_test.go")
}

// fashionTest returns the first images of the test set.
func fashionTest(n int) *dataset.Set {
	test, err := fashion.Test()
	if err == nil {
		test, err = test.First(n)
	}
	if err != nil {
		log.Fatal(err)
	}
	return test
}

// An attack is a choice of method, gradient approximation and norm.
func ExampleEvaluate() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)

	const eps = 8. / 255
	cfg := attack.DefaultConfig()
	cfg.Threat = attack.Threat{Norm: attack.LInf{}, Eps: eps}
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{
		{Name: "FGSM BPTR", Attack: attack.FGSM(eps, snn.BPTR{})},
		{Name: "PGD BPTT", Attack: attack.PGD(eps, eps/4, 10, snn.BPTT{})},
		{Name: "PGD BPTT arctan", Attack: attack.PGD(eps, eps/4, 10, snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}})},
		{Name: "BIM CBA", Attack: attack.BIM(eps, eps/4, 10, snn.CBA{})},
	}, cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range report.Attacks {
		fmt.Printf("%s: within %s %.4f, counted: %v\n", o.Name, o.Norm, o.Eps, o.InWorstCase)
	}
	// Output:
	// FGSM BPTR: within L∞ 0.0314, counted: true
	// PGD BPTT: within L∞ 0.0314, counted: true
	// PGD BPTT arctan: within L∞ 0.0314, counted: true
	// BIM CBA: within L∞ 0.0314, counted: true
}

// A targeted attack in the Euclidean norm.
func ExampleEvaluate_targeted() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)

	targeted := attack.PGD(1.5, 0.3, 10, snn.BPTT{})
	targeted.Norm = attack.L2{}
	targeted.Target = func(id uint64, label int) int {
		other := rng.New(1).Derive("target", id).Rand().IntN(9) // of ten classes
		return (label + 1 + other) % 10
	}
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{{Name: "targeted", Attack: targeted}}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	o := report.Attacks[0]
	right := true
	for i, class := range o.Predicted {
		right = right && o.Success[i] == (class == o.Target[i]) && o.Target[i] != report.Labels[i]
	}
	fmt.Println(report.Norm, report.Eps, right)
	// Output: L2 1.5 true
}

// One perturbation for all frames of an example.
func ExampleAttack_sharedFrames() {
	shared := attack.PGD(8./255, 2./255, 10, snn.BPTT{})
	shared.SharedFrames = true
	threat, _ := shared.Threat()
	fmt.Println(attack.Describe(shared).SharedFrames, threat.PerFrame)
	// Output: true true
}

// Black-box images are made on another network.
func ExampleEvaluate_blackBox() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)
	source, err := zoo.New(zoo.Config{
		Arch: "conv4 A | fc10", Channels: 1, Height: 28, Width: 28, Steps: 4, WidthMultiplier: 1, Decay: 1, Threshold: 1,
		Surrogate: "triangle", SurrogateParam: 1, Classes: 10, BatchNorm: true,
	}, rng.New(2))
	if err != nil {
		log.Fatal(err)
	}
	pgd := attack.PGD(8./255, 2./255, 10, snn.BPTT{})

	cfg := attack.DefaultConfig()
	cfg.Source = source // another trained network for the same images and classes
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{{Name: "PGD", Attack: pgd}}, cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.BlackBox, report.Images)
	// Output: true 16
}

// A preset runs strong attacks, and checks itself.
func ExampleStandard() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(2)
	const eps = 8. / 255

	battery := attack.Standard(attack.Threat{Norm: attack.LInf{}, Eps: eps}) // or Quick, or Thorough
	report, err := battery.Evaluate(ctx, model, test, attack.DefaultBatteryConfig())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("worst case %.1f %%\n", 100*report.WorstCase)
	for _, a := range report.Attacks {
		fmt.Printf("%s broke %d of %d images\n", a.Name, a.Broke, a.Met)
	}
	for _, c := range report.Checks {
		fmt.Println(c.Point, c.Status, c.Name, c.Advice)
	}
}

// margin raises the largest logit of another class over that of the label, and of a
// targeted attack the target's logit over the label's.
type margin struct{}

func (margin) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	classes := len(logits) / len(y)
	for i, label := range y {
		z, other := logits[i*classes:][:classes], (label+1)%classes
		for k := range z {
			if k != label && z[k] > z[other] {
				other = k
			}
		}
		if target != nil {
			other = target[i]
		}
		value[i] = float64(z[other] - z[label])
		grad[i*classes+other], grad[i*classes+label] = 1, -1
	}
}

func (margin) String() string { return "margin" }

// corner starts at a random corner of the ball of the maximum norm.
type corner struct{}

func (corner) Initialize(x []float32, _ attack.Norm, eps float32, r *rand.Rand) {
	for i := range x {
		x[i] += eps * float32(2*r.IntN(2)-1)
	}
}

func (corner) String() string { return "a corner" }

// An objective and a start of one's own.
func ExampleObjective() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)

	own := attack.PGD(8./255, 2./255, 10, snn.BPTT{})
	own.Objective, own.Start = margin{}, corner{}
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{{Name: "margin", Attack: own}}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Attacks[0].Settings)
	// Output: BPTT, margin, 10 steps of 2/255, start: a corner
}

// darken makes images darker, as far as the maximum norm allows.
type darken struct{ eps float32 }

func (d darken) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	adv := x.Clone()
	for i, v := range adv.Data {
		adv.Data[i] = max(v-d.eps, 0)
	}
	for i := range x.N {
		attack.LInf{}.Project(adv.Image(i), x.Image(i), d.eps) // rounding may have left the ball
	}
	return adv, nil
}

func (d darken) Threat() (attack.Threat, bool) {
	return attack.Threat{Norm: attack.LInf{}, Eps: d.eps}, true
}

// An adversary of one's own.
func ExampleBounded() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{{Name: "darken", Attack: darken{0.25}}}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Norm, report.Eps, report.Attacks[0].InWorstCase)
	// Output: L∞ 0.25 true
}

// A report as JSON.
func ExampleReport() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(2)
	fgsm := attack.FGSM(0.25, snn.BPTR{})
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{{Name: "FGSM", Attack: fgsm}}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}

	text, err := json.Marshal(report)
	if err != nil {
		log.Fatal(err)
	}
	var back attack.Report
	if err := json.Unmarshal(text, &back); err != nil {
		log.Fatal(err)
	}
	fmt.Println(back.Norm, back.Eps, len(back.Key), back.Attacks[0].Settings.Gradient)
	// Output: L∞ 0.25 64 BPTR
}
