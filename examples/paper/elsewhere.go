package main

import (
	"fmt"
	"strings"

	"github.com/org/snnrat/examples/internal/nets"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/snn/zoo"
)

// read returns a network that was trained elsewhere, and notes what of a state dict was
// converted or passed over.
func (l *lab) read(n *network) (*nets.Network, error) {
	file, err := l.elsewhere.Read(n.file, n.Network)
	if err != nil {
		return nil, err
	}
	l.stateDicts = l.stateDicts || file.StateDict
	l.fileNotes = append(l.fileNotes, file.Notes...)
	return file, nil
}

// open loads a network that was trained elsewhere, once. It returns an error if the network
// does not fit the data set's images.
func (l *lab) open(n *network) error {
	if l.loaded[n.name] == nil {
		file, err := l.read(n)
		if err != nil {
			return err
		}
		l.loaded[n.name] = newJudged(n.name, file.Model)
	}
	m := l.loaded[n.name].model
	return nets.Fits(n.file, m, n.on.Test)
}

// describe loads the network of -weights, if there is one. Its description replaces the
// flags, which must not contradict it.
func (l *lab) describe(on *sets.Data) error {
	if l.weights == "" {
		return nil
	}
	l.archs = l.archs[:1] // of the experiment's, if no flag says which
	n := l.newNetwork(subject{Data: on, arch: l.archs[0]}, given)
	file, err := l.read(n)
	if err != nil {
		return fmt.Errorf("-weights: %w", err)
	}
	cfg := file.Config
	for _, f := range []struct {
		name     string
		flag, is any
		same     bool
	}{
		{"arch", l.archs[0], cfg.Arch, written(l.archs[0]) == written(cfg.Arch)},
		{"width", l.Width, cfg.WidthMultiplier, l.Width == cfg.WidthMultiplier},
		{"T", l.T, cfg.Steps, l.T == cfg.Steps},
	} {
		if l.given[f.name] && !f.same {
			return fmt.Errorf("-%s %v: the network of -weights %s has %v: expected the same, or no -%s", f.name, f.flag, l.weights, f.is, f.name)
		}
	}
	l.archs, l.Width, l.T = list{cfg.Arch}, cfg.WidthMultiplier, cfg.Steps
	l.described = cfg
	l.loaded[n.name] = newJudged(n.name, file.Model)
	return nil
}

// written returns an architecture written out in one way, whether it has a name or not.
func written(arch string) string {
	if a, ok := zoo.Architectures[strings.ToLower(arch)]; ok {
		arch = a
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(arch, "|", " | ")), " ")
}

// settings returns the settings for the results' JSON: the flags, or for a network that was
// trained elsewhere its description and the flags of its evaluation.
func (l *lab) settings() any {
	if l.weights == "" {
		return l.options
	}
	s := map[string]any{
		"experiment": l.Exp, "weights": l.weights, "network": l.described, "width": l.Width, "T": l.T, "test_images": l.Test,
		"test_eps_255": l.TestEps, "test_alpha": l.TestAlpha, "test_steps": l.TestSteps, "battery": l.Battery, "seed": l.Seed,
	}
	if l.source != "" {
		s["source"] = l.source
	}
	return s
}
