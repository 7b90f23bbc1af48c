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
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
)

// The keys of a checkpoint's metadata.
const (
	progressKey = "snnrat.train"
	digestKey   = "snnrat.train.sha256"
)

// checkpoint is the metadata of a checkpoint file, which otherwise holds tensors.
type checkpoint struct {
	Steps   int       `json:"steps"` // updates made
	History []Metrics `json:"history"`
	Part    tally     `json:"part"` // of the epoch under way
	Origin  []trait   `json:"origin"`
}

// Save writes a checkpoint. It replaces an existing file only once the new one is complete.
// The checkpoint is a safetensors file with the state of the model and of the optimizer,
// the metrics, and what identifies the training. Save may be called between any two steps:
// after an epoch, after an error, or from Config.Progress. [Trainer.SaveEvery] makes Epochs
// call it. The error names the file. With Config.Ranks, all ranks call Save, in a folder that
// they share, and rank 0 writes. The file does not depend on the number of ranks.
func (t *Trainer) Save(path string) error {
	if err := t.save(path); err != nil {
		return fmt.Errorf("train: save %s: %w", path, err)
	}
	return nil
}

// SaveEvery makes Epochs save checkpoints to path. Epochs then saves one before its first
// step, after each epoch, when it ends, and after a step if the interval has passed since
// the last checkpoint. A killed process loses at most the interval and one step. If the
// context is done, nothing is lost. An error of Save ends the sequence. With an empty path,
// Epochs saves no checkpoints.
func (t *Trainer) SaveEvery(interval time.Duration, path string) {
	t.saving = autosave{path: path, interval: interval, at: -1}
}

// autosave is the setting of SaveEvery and the state of its last checkpoint.
type autosave struct {
	path     string
	interval time.Duration
	last     time.Time // of the last checkpoint
	at       int       // position of the last checkpoint, −1 for none
}

// autosave saves the checkpoint that SaveEvery asks for, if the trainer has gone further
// than the last one. Unless now is set, it waits for the interval to pass.
func (t *Trainer) autosave(now bool) error {
	position := t.updater.Steps + len(t.history)
	s := &t.saving
	if s.path == "" || t.changing || position <= s.at {
		return nil
	}
	if !now {
		due, err := t.ofFirst(func() ([]byte, error) {
			if time.Since(s.last) < s.interval {
				return nil, nil
			}
			return []byte{1}, nil
		})
		if err != nil || len(due) == 0 {
			return err
		}
	}
	if err := t.Save(s.path); err != nil {
		return err
	}
	s.last, s.at = time.Now(), position
	return nil
}

func (t *Trainer) save(path string) error {
	if t.changing && !t.running {
		return errFailed
	}
	if t.changing {
		return errors.New("a step is under way, want it completed")
	}
	origin, err := t.origin()
	if err != nil {
		return err
	}
	if t.split() {
		if err := t.collect(t.updater.State()); err != nil {
			return err
		}
	}
	state := checkpoint{Steps: t.updater.Steps, History: t.history, Part: t.part, Origin: origin}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = t.ofFirst(func() ([]byte, error) {
		return nil, atomicfile.Write(path, func(w io.Writer) error {
			return paramfile.Write(w, t.tensors(), map[string]string{
				progressKey: string(text), digestKey: t.digest(string(text)),
			})
		})
	})
	if err != nil {
		return err
	}
	return t.agree(t.seesFile(path))
}

// seesFile returns an error if this rank does not see a file that rank 0 has just written.
// Network file systems may show it a little later.
func (t *Trainer) seesFile(path string) error {
	for wait := time.Millisecond; t.ranks.Rank() > 0; wait *= 2 {
		_, err := os.Stat(path)
		if err == nil {
			break
		}
		if wait > 10*time.Second {
			return fmt.Errorf("rank %d does not see the file that rank 0 has written, want a folder that all ranks share: %w", t.ranks.Rank(), err)
		}
		time.Sleep(wait)
	}
	return nil
}

// Resume restores the state in which the checkpoint was saved, within an epoch or between
// two. The rest of the training gives the same bits as it would without the interruption. t
// must be made like the trainer that saved the checkpoint: with the same layers, set, key
// and configuration. Loader.Prefetch, NoRollback, Ranks, MixedRanks, Validation, Monitor,
// Recorders and Progress may differ. The values of the model's parameters do not matter.
//
// Config.Epochs may be larger than that of the checkpoint if the schedule gives the completed
// steps the same learning rates then. The training is that of the larger number of epochs, to
// the bit. [Constant] and [StepDecay] allow it. [Cosine] does not after the first epoch,
// because it lowers the rate by the share of the epochs that are done. Nor does a
// [ThresholdPenalty] with Rising, or a penalty of the caller's own, once a step is done: what it
// reads in Activity.Progress is another share then.
//
// Resume compares the exported fields of the configuration and of the layers. For a
// function or a channel, it compares only whether it is nil. Of a set without a Fingerprint,
// it compares the shape, the classes and the labels. The caller makes sure that the rest is
// the same.
//
// Resume returns an error that names the file if the file cannot be read, is not a
// checkpoint or is corrupt. It also returns an error if something differs, and names that.
// After an error, t is unchanged.
func (t *Trainer) Resume(path string) error {
	var before snapshot
	if t.ranks.Size() > 1 {
		before.take(t)
	}
	digest, err := t.resume(path)
	resumed := err == nil
	if err = t.sameFile(digest, err); err != nil {
		if resumed {
			before.restore(t)
		}
		return fmt.Errorf("train: resume %s: %w", path, err)
	}
	t.saving.at = -1 // a checkpoint of where the trainer now stands
	return nil
}

// sameFile returns an error on every rank if failure is not nil on one, or if they have resumed
// from files of different digests.
func (t *Trainer) sameFile(digest string, failure error) error {
	host, _ := os.Hostname() // for messages
	all, err := t.share([]byte(digest+" "+host), failure)
	if err != nil {
		return err
	}
	first, firstHost, _ := strings.Cut(string(all[0]), " ")
	for r, m := range all {
		if other, host, _ := strings.Cut(string(m), " "); other != first {
			return fmt.Errorf("the file that rank %d on %s sees is not that of rank 0 on %s, want a folder that all ranks share", r, host, firstHost)
		}
	}
	return nil
}

// resume returns the digest of the file.
func (t *Trainer) resume(path string) (digest string, err error) {
	if t.running {
		return "", errors.New("an epoch is under way, want it completed")
	}
	file, err := paramfile.Open(path, paramfile.Options{})
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, ok := file.Meta[progressKey]
	if !ok {
		return "", fmt.Errorf("no %q in the file's metadata, want a file written by Trainer.Save", progressKey)
	}
	var p checkpoint
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", fmt.Errorf("metadata %q: %w", progressKey, err)
	}
	origin, err := t.origin()
	if err != nil {
		return "", err
	}
	if err := t.allowMoreEpochs(&p); err != nil {
		return "", err
	}
	if err := compare(p.Origin, origin, "the checkpoint"); err != nil {
		return "", err
	}
	done := len(p.History)*t.loader.Batches() + p.Part.Steps // steps
	if p.Part.Steps < 0 || p.Part.Steps > t.loader.Batches() || p.Steps < done {
		return "", fmt.Errorf("metadata %q: %d updates after %d epochs and %d steps of %d: it is corrupt", progressKey, p.Steps, len(p.History), p.Part.Steps, t.loader.Batches())
	}
	var before snapshot
	before.take(t)
	if err := file.Import(t.tensors()); err != nil {
		return "", err
	}
	t.updater.Steps, t.history, t.part = p.Steps, p.History, p.Part
	t.changing = false
	if t.digest(text) != file.Meta[digestKey] {
		before.restore(t)
		return "", fmt.Errorf("the content does not have the SHA-256 %q that the file says: it is corrupt", file.Meta[digestKey])
	}
	return file.Meta[digestKey], nil
}

// allowMoreEpochs makes p a checkpoint of a training with t's number of epochs, if it was made
// with fewer. It returns an error if a completed step would then have had another learning
// rate, or may have had another penalty. Nothing else depends on the number of epochs.
func (t *Trainer) allowMoreEpochs(p *checkpoint) error {
	i := slices.IndexFunc(p.Origin, func(o trait) bool { return o.Name == "Config.Epochs" })
	if i < 0 {
		return nil
	}
	epochs, err := strconv.Atoi(p.Origin[i].Value)
	if err != nil || epochs >= t.cfg.Epochs {
		return nil // which compare sees
	}
	for epoch := range len(p.History) + 1 {
		steps := t.loader.Batches()
		if epoch == len(p.History) {
			steps = min(steps, p.Part.Steps)
		}
		for step := range steps {
			at := Position{epoch, epochs, step, t.loader.Batches()}
			was := t.cfg.Schedule.Rate(t.cfg.LR, at)
			at.Epochs = t.cfg.Epochs
			if is := t.cfg.Schedule.Rate(t.cfg.LR, at); is != was {
				return fmt.Errorf("Config.Epochs is %d, but the checkpoint has %d: with more epochs, %T gives epoch %d the learning rate %v instead of %v; "+
					"want the same number of epochs, or a new training of the network that this one ends with", t.cfg.Epochs, epochs, t.cfg.Schedule, epoch+1, is, was)
			}
		}
	}
	for _, q := range t.cfg.Penalties {
		if p.Steps > 0 && mayReadProgress(q) {
			return fmt.Errorf("Config.Epochs is %d, but the checkpoint has %d: the completed steps may have another penalty %T then, which sees the share of the steps that are done; "+
				"want the same number of epochs", t.cfg.Epochs, epochs, q)
		}
	}
	p.Origin[i].Value = strconv.Itoa(t.cfg.Epochs)
	return nil
}

// mayReadProgress reports whether a penalty may read Activity.Progress, which depends on
// Config.Epochs.
func mayReadProgress(p Penalty) bool {
	switch p := p.(type) {
	case RatePenalty, CurrentPenalty, MembranePenalty, MPDPenalty, MPPDPenalty:
		return false
	case ThresholdPenalty:
		return p.Rising
	}
	return true
}

// tensors returns all parameters and vectors that training changes, by their names in a
// checkpoint.
func (t *Trainer) tensors() map[string]*autograd.Param {
	named := map[string]*autograd.Param{}
	for _, p := range t.model.State() {
		named["model."+p.Name] = p
	}
	for _, p := range t.updater.State() {
		named["optimizer."+p.Name] = p
	}
	for _, p := range t.average.mean {
		named["average."+p.Name] = p
	}
	return named
}

// digest returns the SHA-256 of a checkpoint's metadata followed by its tensors in the
// order of their names.
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
