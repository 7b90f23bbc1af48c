package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
)

// The keys of a checkpoint's metadata.
const (
	progressKey = "snnrat.train"
	digestKey   = "snnrat.train.sha256"
)

// checkpoint is what a checkpoint file holds beside tensors.
type checkpoint struct {
	Steps   int       `json:"steps"` // updates made
	History []Metrics `json:"history"`
	Origin  []trait   `json:"origin"`
}

// Save writes a checkpoint, whole or not at all: a safetensors file with the state of
// the model and of the optimizer, the metrics of the completed epochs, and what
// identifies the training. Call it after an epoch, not from Config.Progress. The
// error names the file.
func (t *Trainer) Save(path string) error {
	if err := t.save(path); err != nil {
		return fmt.Errorf("train: save %s: %w", path, err)
	}
	return nil
}

func (t *Trainer) save(path string) error {
	if t.running {
		return errors.New("an epoch is under way, want it completed")
	}
	origin, err := t.origin()
	if err != nil {
		return err
	}
	state := checkpoint{Steps: t.updater.Steps, History: t.history, Origin: origin}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		return paramfile.Write(w, t.tensors(), map[string]string{
			progressKey: string(text), digestKey: t.digest(string(text)),
		})
	})
}

// Resume goes to where the trainer that saved the checkpoint was; the epochs that are
// left then come out, to the bit, as if that trainer had gone on. t must be made as
// that one was: of the same configuration (but for Loader.Prefetch, Monitor and
// Progress), an alike model, whose parameters do not matter, the same set and the same
// key.
//
// What is compared of a configuration and of a layer is its exported fields. Of a
// function, such as Config.Simplex or an attack's Target, it is only whether there is
// one: that it is the same is the caller's to see to.
//
// It returns an error that names the file, and leaves the trainer and the model as
// they were, if the file cannot be read, is not a checkpoint or is corrupt, or if
// something differs, which the error names.
func (t *Trainer) Resume(path string) error {
	if err := t.resume(path); err != nil {
		return fmt.Errorf("train: resume %s: %w", path, err)
	}
	return nil
}

func (t *Trainer) resume(path string) error {
	if t.running {
		return errors.New("an epoch is under way, want it completed")
	}
	file, err := paramfile.Open(path, paramfile.Options{})
	if err != nil {
		return err
	}
	defer file.Close()
	text, ok := file.Meta[progressKey]
	if !ok {
		return fmt.Errorf("no %q in the file's metadata, want a file written by Trainer.Save", progressKey)
	}
	var p checkpoint
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("metadata %q: %w", progressKey, err)
	}
	origin, err := t.origin()
	if err != nil {
		return err
	}
	if err := compare(p.Origin, origin); err != nil {
		return err
	}
	var before snapshot
	before.take(t)
	if err := file.Import(t.tensors()); err != nil {
		return err
	}
	t.updater.Steps, t.history = p.Steps, p.History
	if t.digest(text) != file.Meta[digestKey] {
		before.restore(t)
		return fmt.Errorf("the content does not have the SHA-256 %q that the file says: it is corrupt", file.Meta[digestKey])
	}
	return nil
}

// tensors lists what training changes under the names of a checkpoint.
func (t *Trainer) tensors() map[string]*autograd.Param {
	named := map[string]*autograd.Param{}
	for _, p := range t.model.State() {
		named["model."+p.Name] = p
	}
	for _, p := range t.updater.State() {
		named["optimizer."+p.Name] = p
	}
	return named
}

// digest returns the SHA-256 of a checkpoint's text and, in the order of their names,
// the tensors.
func (t *Trainer) digest(text string) string {
	h := sha256.New()
	io.WriteString(h, text)
	named := t.tensors()
	var raw []byte
	for _, name := range slices.Sorted(maps.Keys(named)) {
		raw = raw[:0]
		for _, v := range named[name].Data() {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}
