package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/org/snnrat/examples/internal/trials"
)

// publishedFigure is an accuracy that the paper reports, in percent. None is built in, as
// none could be verified in a public source: a reader who has the paper writes them to
// the file of -paper.
type publishedFigure struct {
	Table    string  `json:"table"`            // the experiment: table1 to table4
	Data     string  `json:"data"`             // CIFAR-10 or CIFAR-100
	Arch     string  `json:"arch"`             // as -arch
	Method   string  `json:"method"`           // vanilla, mix, reg, rat, hire or rate
	BlackBox bool    `json:"black_box"`        // else white-box
	Attack   string  `json:"attack"`           // clean, noise, FGSM, RFGSM, PGD or BIM
	Gradient string  `json:"gradient"`         // CBA, BPTR or BPTT; "" for clean and noise
	Accuracy float64 `json:"accuracy_percent"` // in [0,100]
}

// readPublished reads a file with a JSON array of figures.
func readPublished(path string) ([]publishedFigure, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []publishedFigure
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: expected an array of the paper's figures, as the program's documentation has it: %w", path, err)
	}
	for i, p := range list {
		if !(p.Accuracy >= 0 && p.Accuracy <= 100) {
			return nil, fmt.Errorf("%s: figure %d: accuracy_percent %v: expected a number in [0, 100]", path, i+1, p.Accuracy)
		}
	}
	return list, nil
}

// publishedIn returns what the paper reports, in percent, for a trial at its settings.
func (l *lab) publishedIn(s subject, n need, t trials.Trial) (float64, bool) {
	for _, p := range l.published {
		if p.Table == l.Exp && p.Data == s.Name && p.Arch == s.arch && p.Method == n.method.Name &&
			p.BlackBox == n.source && p.Attack == t.Attack && p.Gradient == t.Gradient {
			return p.Accuracy, true
		}
	}
	return 0, false
}

// aboutPaper says what stands, or is missing, beside our figures.
func (l *lab) aboutPaper() string {
	if len(l.published) == 0 {
		return "The paper's own figures (–) could not be verified and are left out; -paper FILE puts them below ours.\n"
	}
	return fmt.Sprintf("The paper's figures, where %s has them, stand below ours.\n", l.paper)
}
