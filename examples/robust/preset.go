package main

import (
	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
)

// presetNames lists the presets.
const presetNames = "quick, standard or thorough"

// transferSteps is the number of steps on each source of transfer attacks.
const transferSteps = 50

// transferred returns an attack by images that are made on source.
func transferred(name string, t attack.Threat, source *snn.Model) attack.Named {
	return attack.Named{Name: "transfer from " + name, Attack: attack.Transfer{
		Sources: []*snn.Model{source},
		Attack: &attack.Attack{
			Objective: attack.Margin{}, Gradient: snn.BPTT{}, Norm: t.Norm, Eps: t.Eps, Start: attack.InBall{}, Steps: transferSteps,
			Rule: attack.APGD{}, KeepBest: true,
		},
	}}
}
