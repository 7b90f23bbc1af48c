package lipschitz_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
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
	o, err := tr.Measure(t.Context(), m, 1)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The tracker returns the values of the functions for single matrices.
func TestTracker(t *testing.T) {
	m := tracked(t)
	tr := lipschitz.NewTracker(func(p *autograd.Param, _ int) (float64, error) { return float64(p.Len()), nil })
	tr.Lanczos.MaxIterations = 3000
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

// The default converges for Gaussian weights, although their largest singular values are close.
func TestTrackerConverges(t *testing.T) {
	cfg := zoo.Default("conv32 conv256 | fc3")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 4, 4, 3, 2
	cfg.Mean, cfg.Std = nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		if len(p.Shape) > 1 {
			p.Import(randomWeights(p.Shape[0], p.Len()/p.Shape[0], 1))
		}
	}
	for name, v := range observe(t, lipschitz.NewTracker(nil), m) {
		if strings.HasPrefix(name, "sigma_max_residual/") && v > 1e-3 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestTrackerAtAnyThreads(t *testing.T) {
	m := tracked(t)
	tr := lipschitz.NewTracker(nil)
	m.Threads = 1
	want := observe(t, tr, m)
	m.Threads = 3
	if got := observe(t, tr, m); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// failure returns the error of two results.
func failure[T any](_ T, err error) error { return err }

func TestTrackerErrors(t *testing.T) {
	m := tracked(t)
	wantError(t, failure((&lipschitz.Tracker{}).Measure(t.Context(), m, 1)), "lipschitz: Tracker: Lanczos.Tol is 0; expected a number in (0, 1)")
	tr := lipschitz.NewTracker(nil)
	w := m.Params()[0]
	v := w.Export()
	bad := slices.Clone(v)
	bad[3] = float32(math.NaN())
	w.Import(bad)
	wantError(t, failure(tr.Measure(t.Context(), m, 1)), "lipschitz: Gamma: the weight in row 0, column 3 is NaN; expected a finite number (features.0.weight)")
	tr.Defect = func(*autograd.Param, int) (float64, error) { return 0, errors.New("no defect") }
	w.Import(v)
	wantError(t, failure(tr.Measure(t.Context(), m, 1)), "no defect")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := failure(tr.Measure(ctx, m, 1)); err != context.Canceled {
		t.Errorf("%v after cancel", err)
	}
}
