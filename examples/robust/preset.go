package main

import (
	"fmt"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
)

// presetNames lists the presets.
const presetNames = "quick, standard or thorough"

// preset returns the battery of a name.
func preset(name string, t attack.Threat) (attack.Battery, error) {
	steps := map[string]int{"quick": 10, "standard": 30, "thorough": 100}[name]
	if steps == 0 {
		return attack.Battery{}, fmt.Errorf("expected %s", presetNames)
	}
	b := attack.Battery{Name: name, Threat: t}
	for _, g := range []struct {
		name     string
		gradient snn.Gradient
	}{{"BPTT", snn.BPTT{}}, {"BPTR", snn.BPTR{}}, {"BPTT arctan", snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}}}} {
		b.Attacks = append(b.Attacks, attack.Named{Name: fmt.Sprintf("PGD-%d %s", steps, g.name), Attack: pgd(t, steps, g.gradient)})
	}
	return b, nil
}

func pgd(t attack.Threat, steps int, g snn.Gradient) *attack.Attack {
	a := attack.PGD(t.Eps, t.Eps/4, steps, g)
	a.Norm, a.KeepBest = t.Norm, true
	return a
}

// transferred returns an attack by images that are made on source.
func transferred(name string, t attack.Threat, source *snn.Model) attack.Named {
	return attack.Named{
		Name:   "transfer from " + name,
		Attack: attack.Transfer{Sources: []*snn.Model{source}, Attack: pgd(t, 50, snn.BPTT{})},
	}
}
