package main

import "github.com/org/snnrat/examples/internal/trials"

// publishedFigure is an accuracy that Ding et al. 2022 report, in percent.
type publishedFigure struct {
	table, data, arch, method string
	blackBox                  bool
	attack, gradient          string
	accuracy                  float64
}

// publishedFigures are those that could be verified.
var publishedFigures = []publishedFigure{}

// published returns the accuracy, in percent, that the paper reports for a trial at its
// settings of the test.
func (o *options) published(s subject, n need, t trials.Trial) (float64, bool) {
	for _, p := range publishedFigures {
		if p.table == o.Exp && p.data == s.Name && p.arch == s.arch && p.method == n.method.Name &&
			p.blackBox == n.source && p.attack == t.Attack && p.gradient == t.Gradient {
			return p.accuracy, true
		}
	}
	return 0, false
}

// unverified says what is missing beside our figures.
const unverified = "The paper's figures stand below ours where they could be verified; the others are left out.\n"
