package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/org/snnrat/examples/internal/trials"
)

// published.json holds the 216 accuracies of Tables 1 to 4 of Ding et al. 2022.
//
//go:embed published.json
var publishedJSON []byte

// publishedFigure is an accuracy that the paper reports.
type publishedFigure struct {
	Table    string  `json:"table"`            // table1 to table4
	Data     string  `json:"data"`             // CIFAR-10 or CIFAR-100
	Arch     string  `json:"arch"`             // as -arch
	Method   string  `json:"method"`           // vanilla, mix, reg, rat, hire or rate
	BlackBox bool    `json:"black_box"`        // else white-box
	Attack   string  `json:"attack"`           // clean, noise, FGSM, RFGSM, PGD or BIM
	Gradient string  `json:"gradient"`         // CBA, BPTR or BPTT; "" for clean and noise
	Accuracy float64 `json:"accuracy_percent"` // in [0,100]
}

// The paper's settings at test (Sec. 3.2): ε in 255ths, and of PGD and BIM the step α and
// the number of steps.
const paperEps, paperAlpha, paperSteps = 8, 0.01, 7

// paperTrainEps is the paper's ε in training with adversarial examples, in 255ths.
const paperTrainEps = 2

// setting is what a figure is of.
type setting struct {
	data, arch, method string
	blackBox           bool
	trial              trials.Trial
}

// setting returns what the figure is of.
func (p publishedFigure) setting() setting {
	s := setting{p.Data, written(p.Arch), p.Method, p.BlackBox, trials.Trial{Attack: p.Attack}} // clean
	if p.Attack == "noise" {
		s.trial = trials.Noise(paperEps)
	}
	for _, g := range trials.Gradients {
		if fmt.Sprint(g) == p.Gradient {
			s.trial = trials.New(p.Attack, g, paperEps, paperAlpha, paperSteps)
		}
	}
	return s
}

// published has the paper's figures, in percent. Tables that report the same setting
// report the same figure.
var published = sync.OnceValue(func() map[setting]float64 {
	var list []publishedFigure
	if err := json.Unmarshal(publishedJSON, &list); err != nil {
		panic("paper: published.json: " + err.Error()) // it is a part of the program
	}
	figures := map[setting]float64{}
	for _, p := range list {
		figures[p.setting()] = p.Accuracy
	}
	return figures
})

// paperFigure returns the accuracy in percent that the paper reports for a trial of a
// network, and whether it reports one. Data set, architecture, width and batch norm must be the same;
// so must the method with its ε and β, and the trial's ε, α and steps. T and the rest of
// the training may differ.
func (l *lab) paperFigure(s subject, n need, t trials.Trial) (float64, bool) {
	paperBeta := projection(s.arch).Beta
	if l.Width != 1 || !l.BatchNorm || n.noBN || n.method.Mix && l.Eps != paperTrainEps || n.method.Reg && l.network(s, n).Beta != paperBeta {
		return 0, false
	}
	v, ok := published()[setting{s.Name, written(s.arch), n.method.Name, n.source, t}]
	return v, ok
}

// aboutPaper is the part of a heading that explains the paper's figures in the tables, if
// there are any.
func (l *lab) aboutPaper() string {
	for _, s := range l.subjects {
		for _, n := range l.needs {
			for _, t := range n.toJudge() {
				if _, ok := l.paperFigure(s, n, t); ok {
					return fmt.Sprintf("Rows \"paper\": Ding et al. 2022 at the same ε, α and steps; T = 8, 50000 training images, 200 epochs, 10000 test images\n"+
						"(ours: T = %d, %d training images, %d epochs, %d test images)\n", l.T, s.Train.N, l.Epochs, s.Test.N)
				}
			}
		}
	}
	return ""
}
