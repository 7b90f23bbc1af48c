package train

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/tfevents"
)

// Recorder writes the metrics of a training somewhere. [CSV] and [TensorBoard] are
// recorders.
type Recorder interface {
	// Record gets the metrics of all completed epochs. Trainer.Epochs calls it when it
	// begins and after every epoch, before the checkpoint of that epoch is saved. A training
	// that resumes may thus have fewer epochs than were recorded before it stopped. What is
	// recorded must then be what history says. An error ends the sequence of Epochs; the
	// trainer keeps the epoch.
	Record(history []Metrics) error
}

// CSV is a [Recorder] that writes the file Path with WriteCSV. After each epoch it replaces
// the whole file, so that the file is complete at any time.
type CSV struct{ Path string }

// Record implements [Recorder].
func (c CSV) Record(history []Metrics) error {
	err := atomicfile.Write(c.Path, func(w io.Writer) error { return WriteCSV(w, history) })
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	return nil
}

// WriteCSV writes metrics as comma-separated values: a line of names, and then one line for
// each epoch. The names are those of Metrics in JSON, with validation_clean and
// validation_attacked for the scores. The numbers that Config.Monitor measured follow, in the
// order of their names. A number that an epoch does not have is empty.
func WriteCSV(w io.Writer, history []Metrics) error {
	measured := map[string]bool{}
	for _, m := range history {
		for name := range m.Measured {
			measured[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(measured))
	out := csv.NewWriter(w)
	header := []string{"epoch"}
	for _, f := range fields(Metrics{}) {
		header = append(header, f.name)
	}
	out.Write(append(header, names...))
	for _, m := range history {
		line := []string{strconv.Itoa(m.Epoch)}
		for _, f := range fields(m) {
			line = append(line, format(f.value, f.known))
		}
		for _, name := range names {
			v, ok := m.Measured[name]
			line = append(line, format(v, ok))
		}
		out.Write(line)
	}
	out.Flush()
	return out.Error()
}

func format(v float64, known bool) string {
	if !known {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// field is a number of Metrics.
type field struct {
	name, tag string // in CSV, and in TensorBoard
	value     float64
	known     bool
}

// fields returns the numbers of m without those that a monitor measured.
func fields(m Metrics) []field {
	s := m.Validation
	if s == nil {
		s = &Scores{}
	}
	attacked := 0.0
	if s.Attacked != nil {
		attacked = *s.Attacked
	}
	return []field{
		{"lr", "train/lr", m.LR, true},
		{"loss", "train/loss", m.Loss, true},
		{"penalty", "train/penalty", m.Penalty, true},
		{"accuracy", "train/accuracy", m.Accuracy, true},
		{"firing_rate", "train/firing_rate", m.FiringRate, true},
		{"validation_clean", "validation/clean", s.Clean, m.Validation != nil},
		{"validation_attacked", "validation/attacked", attacked, s.Attacked != nil},
		{"seconds", "train/seconds", m.Seconds, true},
		{"images_per_second", "train/images_per_second", m.ImagesPerSecond, true},
	}
}

// TensorBoard is a [Recorder] that writes event files for TensorBoard to the folder Dir, and
// makes the folder if there is none. Steps are epochs, from 1. The tags are train/ and the
// names of WriteCSV, validation/clean, validation/attacked, and the names of what
// Config.Monitor measured.
//
// Every process that trains writes a file of its own and appends to it after each epoch. The
// file begins with a mark that makes TensorBoard drop what earlier files of the folder say,
// and with all epochs before. So TensorBoard shows every epoch once, also of a training that
// was killed and resumed.
type TensorBoard struct {
	Dir string

	file    *tfevents.File
	written int // epochs in file
}

// Record implements [Recorder].
func (b *TensorBoard) Record(history []Metrics) (err error) {
	if b.file == nil || len(history) < b.written {
		if b.file, err = tfevents.Create(b.Dir); err != nil {
			return err
		}
		b.written = 0
	}
	for _, m := range history[b.written:] {
		var values []tfevents.Value
		for _, f := range fields(m) {
			if f.known {
				values = append(values, tfevents.Value{Tag: f.tag, Value: f.value})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(m.Measured)) {
			values = append(values, tfevents.Value{Tag: name, Value: m.Measured[name]})
		}
		if err := b.file.Append(int64(m.Epoch), values); err != nil {
			b.file = nil // whose end is not known
			return err
		}
		b.written++
	}
	return nil
}

// record calls the recorders, on rank 0.
func (t *Trainer) record() error {
	if len(t.cfg.Recorders) == 0 {
		return nil
	}
	_, err := t.ofFirst(func() ([]byte, error) {
		for _, r := range t.cfg.Recorders {
			if err := r.Record(t.History()); err != nil {
				return nil, fmt.Errorf("train: recorder %T: %w", r, err)
			}
		}
		return nil, nil
	})
	return err
}
