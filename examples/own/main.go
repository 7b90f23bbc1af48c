package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"syscall"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

// refractory is a leaky integrate-and-fire neuron that rests for some steps after a spike.
// Its states are the membrane potential m and the steps of rest r:
//
//	m ← Decay·m + x,  fire if m ≥ 1,  then m ← 0 and r ← Rest     if r = 0
//	m ← m,            silent,         r ← r − 1                   if r > 0
type refractory struct {
	Decay float32
	Rest  float32 // steps
}

func (n refractory) String() string { return fmt.Sprintf("refractory λ=%v r=%v", n.Decay, n.Rest) }
func (n refractory) NumStates() int { return 2 }

// Integrate is the step up to the spike, which comes if u ≥ 0. z holds m and r of many neurons.
func (n refractory) Integrate(z [][]float32, x, u []float32) {
	m, r := z[0], z[1]
	for i := range m {
		if r[i] > 0 {
			r[i], u[i] = r[i]-1, -1
			continue
		}
		m[i] = n.Decay*m[i] + x[i]
		u[i] = m[i] - 1
	}
}

// Reset is the step after the spikes s, which are 0 or 1.
func (n refractory) Reset(z [][]float32, s []float32) {
	for i, spike := range s {
		z[0][i] *= 1 - spike
		z[1][i] += n.Rest * spike
	}
}

// ResetGrad is the derivative of Reset. The time of rest passes no gradient.
func (n refractory) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	for i, m := range z[0] {
		ds[i] -= m * dz[0][i]
		dz[0][i] *= 1 - s[i]
		dz[1][i] = 0
	}
}

// IntegrateGrad is the derivative of Integrate. A neuron at rest keeps its potential, and no
// gradient reaches its input.
func (n refractory) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	for i, r := range z[1] {
		dx[i] = 0
		if r == 0 {
			dx[i] = dz[0][i] + du[i]
			dz[0][i] = n.Decay * dx[i]
		}
	}
}

// gauss is the surrogate exp(−(u/Width)²).
type gauss struct{ Width float32 }

func (g gauss) String() string { return fmt.Sprintf("gauss %v", g.Width) }

func (g gauss) Derivative(dst, u []float32) {
	for i, v := range u {
		z := float64(v / g.Width)
		dst[i] = float32(math.Exp(-z * z))
	}
}

// hinge is the multi-class hinge loss Σ_k max(0, Margin + z_k − z_label) over the other
// classes k, where z is the mean output over time.
type hinge struct{ Margin float32 }

func (hinge) NeedsClean() bool { return false }

func (h hinge) Validate() error {
	if !(h.Margin > 0) {
		return fmt.Errorf("margin is %v, want a positive number", h.Margin)
	}
	return nil
}

func (h hinge) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	grad = make([]float32, len(o.Mean))
	for n, y := range o.Labels {
		z, g := o.Mean[n*o.Classes:][:o.Classes], grad[n*o.Classes:][:o.Classes]
		for k := range z {
			if d := h.Margin + z[k] - z[y]; k != y && d > 0 {
				losses[n] += float64(d)
				g[k]++
				g[y]--
			}
		}
	}
	return grad, nil
}

// momentum is the momentum iterative method (Dong et al. 2018): steps along the sign of a
// running mean of normalized gradients, inside the L∞ ball of radius Eps.
type momentum struct {
	Eps, Decay float32
	Steps      int
}

// Threat tells an evaluation what to check the images against, and Describe its report.
func (a momentum) Threat() (attack.Threat, bool) {
	return attack.Threat{Norm: attack.LInf{}, Eps: a.Eps}, true
}
func (a momentum) Describe() attack.Settings {
	return attack.Settings{Kind: "momentum iterative method", Steps: a.Steps, Alpha: a.Eps / float32(a.Steps)}
}

// Perturb implements snn.Adversary.
func (a momentum) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	adv, mean := x.Clone(), make([]float32, len(x.Data))
	for range a.Steps {
		grad, err := m.InputGradient(snn.Pass{}, adv, func(logits []float32) []float32 {
			d := make([]float32, len(logits))
			attack.CrossEntropy{}.Evaluate(make([]float64, len(y)), d, logits, y, nil)
			return d
		})
		if err != nil || ctx.Err() != nil {
			return x, cmp.Or(err, ctx.Err())
		}
		for i := range x.N {
			g, v, image := grad.Image(i), mean[i*x.Pixels():][:x.Pixels()], adv.Image(i)
			norm := float32(1e-12)
			for _, d := range g {
				norm += max(d, -d)
			}
			for k, d := range g {
				v[k] = a.Decay*v[k] + d/norm
			}
			attack.LInf{}.Step(image, v, a.Eps/float32(a.Steps))
			attack.LInf{}.Project(image, x.Image(i), a.Eps)
			for k, p := range image {
				image[k] = min(max(p, 0), 1)
			}
		}
	}
	return adv, nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("own: ")
	if len(os.Args) > 1 {
		log.Fatalf("unexpected argument %q: expected none", os.Args[1])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run(ctx, must(fashion.Train()), must(must(fashion.Test()).First(200)))
}

func run(ctx context.Context, images, test *dataset.Set) {
	neurons := func() snn.Neuron { return snn.NewCustom(refractory{Decay: 0.9, Rest: 1}, gauss{0.5}) }
	net := must(snn.NewModel(
		snn.Config{Channels: 1, Height: images.H, Width: images.W, Steps: 4, ClassNames: images.ClassNames()},
		snn.NewSequential(
			snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), neurons(), snn.AvgPool{K: 2},
			snn.NewConv2D(8, 16, 3, 1, 1, true), snn.NewBatchNorm(16), neurons(), snn.AvgPool{K: 2},
			snn.Flatten{}, snn.NewLinear(images.H*images.W, images.Classes, true),
		)))
	net.Init(rng.New(1))

	cfg := train.Default(2) // epochs
	cfg.Loss = hinge{Margin: 1}
	trainer := must(train.New(net, images, cfg, rng.New(1)))
	for epoch, err := range trainer.Epochs(ctx) {
		fmt.Printf("epoch %d: loss %.3f, accuracy %.1f %%\n", must(epoch, err).Epoch, epoch.Loss, 100*epoch.Accuracy)
	}

	fmt.Println(must(attack.Evaluate(ctx, net, test, []attack.Named{
		{Name: "momentum", Attack: momentum{Eps: 8. / 255, Decay: 1, Steps: 5}},
		{Name: "PGD", Attack: attack.PGD(8./255, 0.01, 5, snn.BPTT{})},
	}, attack.DefaultConfig())))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
