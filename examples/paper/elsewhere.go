package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
)

// read returns a network that was trained elsewhere, and what describes it: one that this
// library saved describes itself, a state dict of PyTorch is of a network of the flags'
// settings. It tells note what of a state dict was converted or passed over.
func (n *network) read(note func(string)) (*snn.Model, zoo.Config, error) {
	m, cfg, err := zoo.Load(n.file)
	if errors.Is(err, zoo.ErrNoDescription) || err != nil && strings.HasPrefix(filepath.Ext(n.file), ".pt") {
		cfg = n.Network
		m, err = zoo.LoadTorchWith(n.file, cfg, snn.LoadOptions{Note: func(s string) { note(n.file + ": " + s) }})
	}
	return m, cfg, err
}

// noteFile keeps a line on a file for run to write.
func (l *lab) noteFile(line string) { l.fileNotes = append(l.fileNotes, line) }

// open loads a network that was trained elsewhere, once, and returns an error if it is
// not for the images that it is to be judged on.
func (l *lab) open(n *network) error {
	if l.loaded[n.name] == nil {
		m, _, err := n.read(l.noteFile)
		if err != nil {
			return err
		}
		l.loaded[n.name] = newJudged(n.name, m)
	}
	m := l.loaded[n.name].model
	if s := n.on.Test; m.Channels != s.C || m.Height != s.H || m.Width != s.W || m.Classes() != s.Classes {
		return fmt.Errorf("%s: a network for images of %d×%d×%d in %d classes: expected one for the images of -data, %d×%d×%d in %d classes",
			n.file, m.Channels, m.Height, m.Width, m.Classes(), s.C, s.H, s.W, s.Classes)
	}
	return nil
}

// describe loads the network of -weights, if there is one, and lets what describes it
// take the place of the flags, which must not say otherwise.
func (l *lab) describe(on *sets.Data) error {
	if l.weights == "" {
		return nil
	}
	l.archs = l.archs[:1] // of the experiment's, if no flag says which
	n := l.newNetwork(subject{Data: on, arch: l.archs[0]}, given)
	m, cfg, err := n.read(l.noteFile)
	if err != nil {
		return fmt.Errorf("-weights: %w", err)
	}
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
	l.loaded[n.name] = newJudged(n.name, m)
	return nil
}

// written returns a network that may be named, written out, in one way.
func written(arch string) string {
	if a, ok := zoo.Architectures[strings.ToLower(arch)]; ok {
		arch = a
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(arch, "|", " | ")), " ")
}

// settings are what the results' JSON says of how they were made: the flags, but for a
// network that was trained elsewhere what describes it and the flags by which it was
// judged.
func (l *lab) settings() any {
	if l.weights == "" {
		return l.options
	}
	s := map[string]any{
		"experiment": l.Exp, "weights": l.weights, "network": l.described, "width": l.Width, "T": l.T, "test_images": l.Test,
		"test_eps_255": l.TestEps, "test_alpha": l.TestAlpha, "test_steps": l.TestSteps, "seed": l.Seed,
	}
	if l.source != "" {
		s["source"] = l.source
	}
	return s
}
