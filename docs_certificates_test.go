package snnrat_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/event"
	"github.com/org/snnrat/train/dataset/fashion"
)

// The Go code of docs/certificates.md and docs/events.md is code of this file.
func TestDocsCertificates(t *testing.T) {
	doctest.Page(t, "docs/certificates.md", 2, "docs_certificates_test.go")
	doctest.Page(t, "docs/events.md", 3, "docs_certificates_test.go", "docs_events_test.go")
}

// complete runs the part of docs/certificates.md on small networks.
func complete(ctx context.Context, m *snn.Model, images tensor.NCHW, labels []int, search certify.Searcher) ([]certify.Completed, error) {
	results, err := certify.Complete(ctx, m, images, labels,
		certify.Config{Epsilon: 8. / 255, Search: search}, certify.Effort{Nodes: 2000, Time: time.Minute})
	return results, err
}

// certified runs the part on training.
func certified(set snn.Dataset) (zoo.Config, train.Config) {
	cfg := zoo.Default("conv8 A conv16 A | fc").For(set)
	cfg.Steps, cfg.SoftReset, cfg.Threshold, cfg.BatchNorm = 2, true, 0.5, false

	tr := train.Default(6)
	tr.LR, tr.ClipNorm = 0.05, 1
	tr.Recipe = train.IBP{Eps: 4. / 255, Kappa: 0.3, Ramp: 3}
	return cfg, tr
}

// events runs the part of docs/events.md on frames.
func events(ctx context.Context, path string) error {
	folder, err := event.ReadFolder(path, event.DefaultConfig())
	if err != nil {
		return err
	}
	cfg := event.DefaultFrames(10) // T = 10 frames of equal time, binary
	cfg.Split = event.EqualCount{} // or TimeWindow{Micros}, CountWindow{Events}
	cfg.Clip = 4                   // values are min(count, 4)/4
	set, tally, err := event.NewSet(ctx, "N-MNIST", folder, cfg)
	if err != nil {
		return err
	}
	fmt.Println(set.Shape(), tally)
	return nil
}

func TestDocsCertificatesRuns(t *testing.T) {
	m := model(t, snn.Config{Channels: 1, Height: 2, Width: 2, Steps: 2}, snn.Flatten{}, snn.NewLinear(4, 3, true), snn.NewIF(), snn.NewLinear(3, 2, true))
	x := pixels(m, 1)
	logits, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	label := 0
	if logits[1] > logits[0] {
		label = 1
	}
	results, err := complete(t.Context(), m, x, []int{label}, nil)
	require.NoError(t, err)
	assert.NotEqual(t, certify.Unknown, results[0].Verdict, "four pixels and three neurons")
	set, err := fashion.Train()
	require.NoError(t, err)
	cfg, tr := certified(set)
	net, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	_, err = train.New(net, set, tr, rng.New(1))
	require.NoError(t, err)
	assert.ErrorContains(t, events(t.Context(), t.TempDir()), "no subfolders")
}
