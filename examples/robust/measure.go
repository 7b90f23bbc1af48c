package main

import (
	"context"
	"fmt"
	"math"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// curvePoint is the accuracy at another ε.
type curvePoint struct {
	Factor   string  `json:"factor"` // of the evaluation's ε
	Eps      float32 `json:"eps"`
	Images   int     `json:"images"`
	Accuracy float64 `json:"accuracy"`
	Low      float64 `json:"low"` // of the 95 % interval
	High     float64 `json:"high"`
}

// point returns the point of a curve at which so many images are right.
func point(factor string, eps float32, right, images int) curvePoint {
	p := curvePoint{Factor: factor, Eps: eps, Images: images, Accuracy: float64(right) / float64(images)}
	p.Low, p.High = attack.Wilson(right, images)
	return p
}

// correct returns the number of images that an accuracy stands for.
func correct(accuracy float64, images int) int { return int(math.Round(accuracy * float64(images))) }

// radii returns the factors of -curve whose radii are possible.
func (j *job) radii() (list []string) {
	for _, f := range j.curve {
		if v, _ := fraction(f); j.norm != "linf" || float32(v*j.eps.value) <= 1 {
			list = append(list, f)
		}
	}
	return list
}

// measureCurve evaluates a network at each radius of -curve by the preset quick.
func (j *job) measureCurve(ctx context.Context, s *subject, p *progress) error {
	shard, images := j.curveShard(j.shard)
	if images == 0 {
		return nil
	}
	data, err := j.data.First(j.onCurve())
	if err != nil {
		return err
	}
	for i, f := range j.radii() {
		if i < len(p.Curve) {
			j.meter.Skip(curveWork * float64(images))
			continue
		}
		v, _ := fraction(f)
		t := j.threat
		t.Eps = float32(v * j.eps.value)
		b, err := attack.Preset("quick", t)
		if err != nil {
			return err
		}
		cfg := j.config()
		cfg.Unchecked, cfg.Shard = true, shard
		cfg.OnResult = func(attack.ImageResult) error {
			j.meter.Add(curveWork, s.Name+" at ε × "+f)
			return nil
		}
		r, err := b.Evaluate(ctx, s.model, data, cfg)
		if err != nil {
			return fmt.Errorf("-curve %s, -net %s: %w", f, s.File, err)
		}
		if err := j.contradiction(s, p, r, t.Eps); err != nil {
			return err
		}
		p.Curve = append(p.Curve, point(f, t.Eps, correct(r.WorstCase, r.Images), r.Images))
		if err := j.journal.save(); err != nil {
			return err
		}
	}
	return nil
}

// firing is the mean firing rate of a layer of neurons: spikes per neuron and time step.
type firing struct {
	Layer    string  `json:"layer"`
	Clean    float64 `json:"clean"`
	Attacked float64 `json:"attacked"`
}

// measureFiring returns the firing rates for the kept images that met an attack. It returns the error of
// ctx.
func (j *job) measureFiring(ctx context.Context, s *subject) (list []firing, err error) {
	k := s.report.Kept
	at := map[string]int{}
	images := 0
	for i, index := range k.Indices {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s.report.Results[index].BrokenBy == attack.Misclassified {
			continue
		}
		images++
		keys := []rng.Key{rng.New(j.seed).Derive("firing", uint64(index))}
		for attacked, x := range []tensor.NCHW{k.Clean.Slice(i, i+1), k.Adversarial[0].Slice(i, i+1)} {
			pass := snn.Pass{Keys: keys, OnSpikes: func(layer string, spikes *tensor.Spikes) {
				n, ok := at[layer]
				if !ok {
					n = len(list)
					at[layer] = n
					list = append(list, firing{Layer: layer})
				}
				if attacked == 1 {
					list[n].Attacked += spikes.Rate()
				} else {
					list[n].Clean += spikes.Rate()
				}
			}}
			if _, err := s.model.Logits(pass, x); err != nil {
				return nil, fmt.Errorf("-net %s: %w", s.File, err)
			}
		}
	}
	for n := range list {
		list[n].Clean /= float64(images)
		list[n].Attacked /= float64(images)
	}
	return list, nil
}
