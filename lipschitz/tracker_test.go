package lipschitz_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

func tracked(t testing.TB) *snn.Model {
	cfg := zoo.Default("conv6 A conv5 | fc7 fc3")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 4, 4, 3, 2
	cfg.Mean, cfg.Std = nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func observe(t testing.TB, tr *lipschitz.Tracker, m *snn.Model) map[string]float64 {
	t.Helper()
	o, err := tr.Observe(t.Context(), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What is observed is what the functions for one matrix, and gonum's SVD, say.
func TestTracker(t *testing.T) {
	m := tracked(t)
	tr := lipschitz.NewTracker(func(p *autograd.Param, _ int) (float64, error) { return float64(p.Len()), nil })
	tr.Power.MaxIterations = 3000
	got := observe(t, tr, m)
	product := 1.0
	weights := 0
	for _, p := range m.Params() {
		if len(p.Shape) < 2 {
			continue
		}
		weights++
		w, rows, cols := lipschitz.Matrix(p)
		sigma := svdNorm(w, rows, cols)
		near(t, p.Name, got["sigma_max/"+p.Name], sigma, 1e-4)
		if r := got["sigma_max_residual/"+p.Name]; !(r <= 1e-3) {
			t.Errorf("%s: residual %v", p.Name, r)
		}
		gamma, err := lipschitz.Gamma(w, rows, cols)
		if err != nil || got["gamma/"+p.Name] != gamma {
			t.Errorf("%s: γ %v, want %v (%v)", p.Name, got["gamma/"+p.Name], gamma, err)
		}
		if d := got["defect/"+p.Name]; d != float64(p.Len()) {
			t.Errorf("%s: defect %v", p.Name, d)
		}
		product *= got["sigma_max/"+p.Name]
	}
	if weights != 4 || len(got) != 4*weights+1 || got["sigma_max_product"] != product {
		t.Errorf("%d weights: %v", weights, got)
	}
}

// Two products an epoch are enough for weights that change little, and not for a
// start from anywhere; and one finds a singular vector that overtakes the largest.
func TestTrackerStartsWarm(t *testing.T) {
	cfg := zoo.Default("conv1 | fc8")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 8, 8, 8, 1
	cfg.Mean, cfg.Std = nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	if err != nil {
		t.Fatal(err)
	}
	const name = "/classifier.0.weight"
	var w *autograd.Param
	for _, p := range m.Params() {
		if "/"+p.Name == name {
			w = p
		}
	}
	set := func(a, b float32) { // the singular values a and, seven times, b
		v := make([]float32, 8*64)
		v[0] = a
		for i := 1; i < 8; i++ {
			v[i*64+i] = b
		}
		w.Import(v)
	}
	tr := &lipschitz.Tracker{Power: lipschitz.PowerIteration{Tol: 1e-3, MaxIterations: 2}}
	var residuals []float64
	for epoch := range 20 {
		set(2+float32(epoch)/1000, 1.7)
		residuals = append(residuals, observe(t, tr, m)["sigma_max_residual"+name])
	}
	if first, last := residuals[0], residuals[19]; first < 0.05 || last > 0.03 {
		t.Errorf("residuals %v", residuals)
	}
	set(2, 0) // takes the vector to exactly where it was the largest
	observe(t, tr, m)
	for range 20 {
		set(2, 2.4)
		observe(t, tr, m)
	}
	near(t, "σ that has overtaken", observe(t, tr, m)["sigma_max"+name], 2.4, 1e-4)
}

// A tracker that was marshalled and unmarshalled goes on to the bit, and none depends
// on the number of threads.
func TestTrackerResumes(t *testing.T) {
	m := tracked(t)
	one, two := lipschitz.NewTracker(nil), lipschitz.NewTracker(nil)
	one.Power.MaxIterations, two.Power.MaxIterations = 2, 2
	m.Threads = 1
	first := observe(t, one, m)
	b, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, two); err != nil {
		t.Fatal(err)
	}
	again := observe(t, one, m)
	m.Threads = 3
	if got := observe(t, two, m); !reflect.DeepEqual(got, again) || reflect.DeepEqual(got, first) {
		t.Errorf("%v, want %v, not %v", got, again, first)
	}
}

// failure returns the error of two results.
func failure[T any](_ T, err error) error { return err }

func TestTrackerErrors(t *testing.T) {
	m := tracked(t)
	wantError(t, failure((&lipschitz.Tracker{}).Observe(t.Context(), m, 1)), "lipschitz: Tracker: Tol is 0; expected a number in (0, 1)")
	tr := lipschitz.NewTracker(nil)
	w := m.Params()[0]
	v := w.Export()
	bad := slices.Clone(v)
	bad[3] = float32(math.NaN())
	w.Import(bad)
	wantError(t, failure(tr.Observe(t.Context(), m, 1)), "lipschitz: Gamma: the weight in row 0, column 3 is NaN; expected a finite number (features.0.weight)")
	tr.Defect = func(*autograd.Param, int) (float64, error) { return 0, errors.New("no defect") }
	w.Import(v)
	wantError(t, failure(tr.Observe(t.Context(), m, 1)), "no defect")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := failure(tr.Observe(ctx, m, 1)); err != context.Canceled {
		t.Errorf("%v after cancel", err)
	}
	b, err := json.Marshal(tr)
	if err != nil || string(b) != "null" {
		t.Errorf("%s after an error, %v", b, err)
	}
	wantError(t, json.Unmarshal([]byte(`{"a":[1,1]}`), tr), "lipschitz: Tracker: the vector of a has a squared length of 2; expected 1")
	wantError(t, json.Unmarshal([]byte(`[1]`), tr), "lipschitz: Tracker: ")
}
