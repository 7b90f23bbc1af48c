package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// method is a way to train.
type method struct {
	Name string `json:"name"`
	Mix  bool   `json:"mix"` // on adversarial examples, mixed
	Reg  bool   `json:"reg"` // with projected weights, instead of L2 weight decay
}

var (
	vanilla = method{Name: "vanilla"}
	mix     = method{Name: "mix", Mix: true}
	reg     = method{Name: "reg", Reg: true}
	rat     = method{Name: "rat", Mix: true, Reg: true}
	none    = method{Name: "none"}              // neither weight decay nor the projection
	regL2   = method{Name: "reg-l2", Reg: true} // both
	scaled  = method{Name: "scaled"}            // the scale of reg, without its orthogonality
	source  = method{Name: "source"}            // vanilla, but for its seed: the source of black-box attacks

	hire  = method{Name: "hire"}    // HIRE-SNN, by Kundu et al. 2021
	rate  = method{Name: "rate"}    // rate-coded, by Sharmin et al. 2020
	given = method{Name: "weights"} // trained elsewhere
)

// recipe is all that a network depends on. Fields that its method does not use are zero.
type recipe struct {
	Method  method     `json:"method"`
	Data    string     `json:"data"` // fingerprint of the training images
	Images  int        `json:"images"`
	Network zoo.Config `json:"network"`
	Augment bool       `json:"augment"`
	Epochs  int        `json:"epochs"`
	Batch   int        `json:"batch"`
	LR      float64    `json:"lr"`

	Eps      float64 `json:"eps_255,omitempty"`
	Beta     float32 `json:"beta,omitempty"`
	RowShare float64 `json:"row_share,omitempty"`
	Decay    float64 `json:"weight_decay,omitempty"`
	Seed     uint64  `json:"seed"`

	HIRE *train.HIRE `json:"hire,omitempty"`

	Settings map[string]float64 `json:"settings,omitempty"` // of a training
	Init     string             `json:"init,omitempty"`     // unitCurrents, of a VGG without batch norm
	Start    *recipe            `json:"start,omitempty"`    // of the network that this one begins with
}

// The keys of a network's metadata.
const (
	recipeKey  = "snnrat.paper.recipe"
	historyKey = "snnrat.paper.history"
	digestKey  = "snnrat.paper.sha256"
)

// subject is a data set and an architecture of an experiment.
type subject struct {
	*sets.Data
	digest string // of the training images
	arch   string
	tested string // digest of the test images
}

func (s subject) String() string { return s.arch + ", " + s.Name }

// slug turns a text into a part of a file's name.
func slug(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(text))
}

// network is a recipe and what it is made from.
type network struct {
	recipe
	on   *sets.Data // its training images
	name string     // of its file: the architecture, the method and a digest of the recipe
	file string     // of a network that was trained elsewhere, or ""
	slow float64    // the work of an image, relative to vanilla
}

// newNetwork returns the network of a method on a subject.
func (o *options) newNetwork(s subject, m method) *network {
	cfg := zoo.Default(s.arch)
	cfg.WidthMultiplier, cfg.Steps, cfg.BatchNorm = o.Width, o.T, o.BatchNorm
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = s.Train.C, s.Train.H, s.Train.W, s.Train.Classes
	cfg.Mean, cfg.Std = s.Mean, s.Std
	switch m {
	case hire:
		cfg.Steps = o.HIRESteps
	case rate:
		coded := zoo.RateCoded(s.arch)
		cfg.Poisson, cfg.Decay, cfg.SoftReset, cfg.Mean, cfg.Std = coded.Poisson, coded.Decay, coded.SoftReset, coded.Mean, coded.Std
		cfg.Steps = o.RateSteps
	}
	slow := float64(cfg.Steps) / float64(o.T)
	t := trainingOf(m)
	settings := o.settingsOf(t)
	if t.network != nil {
		t.network(&cfg, settings)
	}
	for _, a := range t.additions {
		if a.network != nil {
			a.network(&cfg, settings)
		}
	}
	r := recipe{
		Method: m, Data: s.digest, Images: s.Train.N, Network: cfg, Augment: len(s.Loader.Augment) > 0,
		Epochs: o.Epochs, Batch: o.Batch, LR: o.LR, Seed: o.Seed,
	}
	r.Settings = settings
	switch {
	case t.start != "":
		r.Start = &o.newNetwork(s, trainingNamed(t.start).method).recipe
	case !cfg.BatchNorm && !residual(s.arch):
		r.Init = unitCurrents
	}
	if m.Mix || t.eps {
		r.Eps = o.Eps
	}
	if m == hire {
		r.HIRE = &train.HIRE{Periods: o.HIREPeriods, Eps: float32(o.HIREEps / 255)}
	}
	if m.Reg {
		r.RowShare = o.RowShare
	}
	if m.Reg || m == scaled {
		r.Beta = float32(o.Beta)
		if o.Beta == 0 {
			r.Beta = projection(s.arch).Beta
		}
	}
	if m == regL2 || !m.Reg && m != none && m != scaled {
		r.Decay = o.WeightDecay
	}
	n := &network{recipe: r, on: s.Data, slow: slow}
	switch m {
	case given:
		n.file = o.weights
	case source:
		n.file = o.source
	}
	if n.file != "" {
		n.name = m.Name + "-" + slug(filepath.Base(n.file))
		return n
	}
	sum := sha256.Sum256([]byte(r.text()))
	arch := slug(s.arch)
	n.name = fmt.Sprintf("%s-%s-%s", arch[:min(len(arch), 24)], m.Name, hex.EncodeToString(sum[:6]))
	return n
}

// residual reports whether an architecture is a wide residual network.
func residual(arch string) bool { return strings.HasPrefix(strings.ToLower(arch), "wrn") }

// projection returns the paper's settings of REG for an architecture.
func projection(arch string) regularize.Orthogonal {
	if residual(arch) {
		return regularize.ForWRN()
	}
	return regularize.ForVGG()
}

func (r recipe) text() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic("paper: recipe: " + err.Error()) // JSON has all of its types and values
	}
	return string(b)
}

// build returns the untrained network. All methods except source start from the same
// parameters.
func (n *network) build() (*snn.Model, error) {
	m, err := zoo.New(n.Network, n.key("init"))
	if err != nil {
		return nil, fmt.Errorf("network of -arch %q: %w", n.Network.Arch, err)
	}
	m.Meta[recipeKey] = n.text()
	return m, nil
}

// validate returns an error if the network cannot be trained.
func (n *network) validate() error {
	m, err := n.build()
	if err == nil && len(neuronLayers(m)) == 0 {
		err = fmt.Errorf("network of -arch %q: no layer of neurons: expected at least one", n.Network.Arch)
	}
	if err != nil || n.Settings == nil {
		return err
	}
	cfg := n.config(m)
	if a, ok := cfg.Adversary.(interface{ Validate() error }); ok {
		err = a.Validate()
	}
	if err == nil {
		_, err = train.New(m, n.on.Train, cfg, n.key("train"))
	}
	if err == nil && trainingOf(n.Method).balanced {
		err = canBalance(m, n.Settings["quantile"])
	}
	if err != nil {
		return fmt.Errorf("method %s with %v: %w", n.Method.Name, n.Settings, err)
	}
	return nil
}

func (n *network) key(purpose string) rng.Key {
	var role uint64
	if n.Method == source {
		role = 1
	}
	return rng.New(n.Seed).Derive(purpose, role)
}

// config returns how the network m is trained.
func (n *network) config(m *snn.Model) train.Config {
	cfg := train.Default(n.Epochs)
	sgd := train.DefaultSGD()
	sgd.WeightDecay = n.Decay
	if n.Method.Reg {
		o := projection(n.Network.Arch)
		o.Beta, o.RowShare = n.Beta, float32(n.RowShare)
		cfg = train.RAT(n.Epochs, nil, o, regularize.Simplex)
	}
	if n.Method == scaled {
		cfg = train.RAT(n.Epochs, nil, scaling{n.Beta}, regularize.Simplex)
	}
	cfg.Optimizer = sgd
	if n.Method.Mix {
		cfg.Adversary = attack.RATMix(float32(n.Eps / 255))
	}
	cfg.LR, cfg.Loader = n.LR, n.on.Loader
	if n.HIRE != nil {
		cfg.Recipe = *n.HIRE
	}
	cfg.Loader.BatchSize = n.Batch
	t := trainingOf(n.Method)
	if t.set != nil {
		t.set(&cfg, float32(n.Eps/255), n.Settings, neuronLayers(m))
	}
	for _, a := range t.additions {
		if a.set != nil {
			a.set(&cfg, float32(n.Eps/255), n.Settings)
		}
	}
	return cfg
}

// work is the work of an epoch, in forward passes of an image: 1 for the forward pass, 2
// for the backward pass, and for adversarial training the gradient steps of the attack. (Measured on VGG-11 of
// a quarter of the width, where the projection takes little.)
func (n *network) work() float64 {
	t := trainingOf(n.Method)
	work := 3*float64(1+t.forward) + trials.GradientWork*float64(t.gradients)
	if t.balanced {
		work /= float64(n.Network.Steps)
	}
	return n.slow * work * float64(n.Images)
}

// cabinet is the folder of the trained networks. Each has a safetensors file, which holds
// its recipe. A network in training has a checkpoint.
type cabinet struct {
	folder   string
	readOnly bool
}

func (c cabinet) path(n *network) string { return filepath.Join(c.folder, n.name+".safetensors") }

func (c cabinet) checkpoint(n *network) string { return filepath.Join(c.folder, n.name+".ckpt") }

// holds reports whether the network has been trained.
func (c cabinet) holds(n *network) (bool, error) {
	_, err := os.Stat(c.path(n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// load returns a trained network and the metrics of its training.
func (c cabinet) load(n *network) (*snn.Model, []train.Metrics, error) {
	path := c.path(n)
	m, _, err := zoo.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if got := m.Meta[recipeKey]; got != n.text() {
		return nil, nil, fmt.Errorf("%s: expected the network of the recipe %s, but it is that of %q: remove it", path, n.text(), got)
	}
	// Networks of earlier versions have no digest.
	if said := m.Meta[digestKey]; said != "" && said != fullDigest(m) {
		return nil, nil, fmt.Errorf("%s: the content does not have the SHA-256 %q that the file says: it is corrupt, remove it", path, said)
	}
	var history []train.Metrics
	if err := json.Unmarshal([]byte(m.Meta[historyKey]), &history); err != nil {
		return nil, nil, fmt.Errorf("%s: metadata %s: %w", path, historyKey, err)
	}
	return m, history, nil
}

// train makes the network, or goes on with it from its checkpoint. start is the network that it
// begins with, or nil for its own parameters. step is called with the work that was done and what
// it was done on.
func (c cabinet) train(ctx context.Context, n *network, start *judged, skip func(work float64), step func(work float64, on string), epoch func(text string)) error {
	m, err := n.build()
	if err != nil {
		return err
	}
	if n.Init != "" {
		if err := scaleCurrents(m, n.on.Train); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if start != nil {
		for i, p := range start.model.State() {
			copy(m.State()[i].MutableData(), p.Data())
		}
	}
	cfg := n.config(m)
	cfg.Progress = func(p train.Progress) {
		step(n.work()/float64(p.Steps), fmt.Sprintf("%s: epoch %d/%d, loss %.3f", n.name, p.Epoch, p.Epochs, p.Loss))
	}
	_, err = runs.Training{
		Checkpoint: c.checkpoint(n), Interval: runs.DefaultInterval,
		Resumed: func(epochs float64) { skip(epochs * n.work()) },
		Epoch: func(e train.Metrics) {
			epoch(fmt.Sprintf("%s: epoch %d of %d: loss %.3f, training accuracy %.1f %%", n.name, e.Epoch, n.Epochs, e.Loss, 100*e.Accuracy))
		},
		Done: func(metrics []train.Metrics) error { return c.save(n, m, metrics) },
	}.Run(ctx, m, n.on.Train, cfg, n.key("train"))
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return runs.Remove(c.checkpoint(n))
}

// save writes a network that was trained, the ReLU network as one that fires.
func (c cabinet) save(n *network, m *snn.Model, metrics []train.Metrics) error {
	if trainingOf(n.Method).balanced {
		if err := balance(m, n.on.Train, n.Settings["quantile"]); err != nil {
			return err
		}
	}
	history, err := json.Marshal(metrics)
	if err != nil {
		return err
	}
	m.Meta[historyKey] = string(history)
	m.Meta[digestKey] = fullDigest(m)
	return m.Save(c.path(n))
}

// fullDigest identifies a network with its recipe and its history.
func fullDigest(m *snn.Model) string {
	sum := sha256.Sum256([]byte(digest(m) + m.Meta[recipeKey] + m.Meta[historyKey]))
	return hex.EncodeToString(sum[:])
}
