package train_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// mailbox holds what goes from one rank to another, in order.
type mailbox struct {
	shared chan any
	mu     sync.Mutex
	floats map[string]chan []float32
}

func (m *mailbox) of(kind string, tag int) chan []float32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := fmt.Sprint(kind, tag)
	if m.floats[name] == nil {
		m.floats[name] = make(chan []float32, 16)
	}
	return m.floats[name]
}

// goroutines are ranks in one process.
type goroutines struct {
	rank  int
	boxes [][]*mailbox // [from][to]
	sent  *atomic.Int64
}

func newRanks(n int) []*goroutines {
	boxes := make([][]*mailbox, n)
	for from := range boxes {
		for range n {
			boxes[from] = append(boxes[from], &mailbox{shared: make(chan any, 16), floats: map[string]chan []float32{}})
		}
	}
	ranks := make([]*goroutines, n)
	for r := range ranks {
		ranks[r] = &goroutines{r, boxes, new(atomic.Int64)}
	}
	return ranks
}

func (g *goroutines) Rank() int { return g.rank }
func (g *goroutines) Size() int { return len(g.boxes) }

func (g *goroutines) Share(message []byte, failure error) (all [][]byte, err error) {
	for to := range g.boxes {
		if failure != nil {
			g.boxes[g.rank][to].shared <- failure
		} else {
			g.boxes[g.rank][to].shared <- slices.Clone(message)
		}
	}
	for from := range g.boxes {
		select {
		case m := <-g.boxes[from][g.rank].shared:
			if e, ok := m.(error); ok {
				if err == nil {
					err = fmt.Errorf("rank %d: %w", from, e)
				}
				continue
			}
			all = append(all, m.([]byte))
		case <-time.After(20 * time.Second):
			return nil, fmt.Errorf("rank %d does not answer", from)
		}
	}
	return all, err
}

// letters are the messages that a transfer waits for.
type letters struct {
	from []chan []float32
	to   [][]float32
}

func (g *goroutines) Scatter(tag int, v []float32, cuts []int, parts [][]float32) train.Transfer {
	l := &letters{}
	for r := range g.boxes {
		if r != g.rank {
			g.boxes[g.rank][r].of("scatter", tag) <- slices.Clone(v[cuts[r]:cuts[r+1]])
			g.sent.Add(int64(4 * (cuts[r+1] - cuts[r])))
			l.from = append(l.from, g.boxes[r][g.rank].of("scatter", tag))
			l.to = append(l.to, parts[r])
		}
	}
	return l
}

func (g *goroutines) Collect(tag int, v []float32, cuts []int) train.Transfer {
	l := &letters{}
	for r := range g.boxes {
		if r != g.rank {
			g.boxes[g.rank][r].of("collect", tag) <- slices.Clone(v[cuts[g.rank]:cuts[g.rank+1]])
			g.sent.Add(int64(4 * (cuts[g.rank+1] - cuts[g.rank])))
			l.from = append(l.from, g.boxes[r][g.rank].of("collect", tag))
			l.to = append(l.to, v[cuts[r]:cuts[r+1]])
		}
	}
	return l
}

func (l *letters) Done() bool {
	for _, c := range l.from {
		if len(c) == 0 {
			return false
		}
	}
	return true
}

func (l *letters) Wait() error {
	for i, c := range l.from {
		select {
		case v := <-c:
			if len(v) != len(l.to[i]) {
				return fmt.Errorf("%d values, want %d", len(v), len(l.to[i]))
			}
			copy(l.to[i], v)
		case <-time.After(20 * time.Second):
			return errors.New("no answer")
		}
	}
	l.from = nil
	return nil
}

// onRanks calls fn on n ranks at a time.
func onRanks(n int, fn func(r *goroutines)) {
	var all sync.WaitGroup
	for _, r := range newRanks(n) {
		all.Go(func() { fn(r) })
	}
	all.Wait()
}

// trained is what a training leaves.
type trained struct {
	values  [][]float32
	history []train.Metrics
	file    map[string][]float32 // of the checkpoint
	average [][]float32
}

// trainOn trains on n ranks until ctx is done, from the checkpoint at path if there is one. The
// ranks must end alike.
func trainOn(t testing.TB, n int, build func() *snn.Model, cfg train.Config, path string, stopAfter int) trained {
	results := make([]trained, n)
	_, absent := os.Stat(path) // before the first rank writes it
	onRanks(n, func(r *goroutines) {
		cfg, model := cfg, build()
		cfg.Ranks = r
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		steps := 0
		cfg.Progress = func(train.Progress) {
			if steps++; steps == stopAfter && r.rank == n-1 {
				cancel()
			}
		}
		tr, err := train.New(model, toy(t), cfg, rng.New(5))
		if !assert.NoError(t, err) {
			return
		}
		if absent == nil {
			model.Init(rng.New(99))
			if !assert.NoError(t, tr.Resume(path)) {
				return
			}
		}
		tr.SaveEvery(time.Hour, path)
		for _, err := range tr.Epochs(ctx) {
			if stopAfter > 0 && err != nil {
				assert.ErrorIs(t, err, context.Canceled)
			} else {
				assert.NoError(t, err)
			}
		}
		res := &results[r.rank]
		res.values, res.average = values(model), averaged(t, tr, model)
		for _, m := range tr.History() {
			res.history = append(res.history, timeless(m))
		}
	})
	for _, r := range results[1:] {
		require.Equal(t, results[0], r)
	}
	results[0].file = tensorsOf(t, path)
	return results[0]
}

// tensorsOf returns the tensors of a file.
func tensorsOf(t testing.TB, path string) map[string][]float32 {
	f, err := paramfile.Open(path, paramfile.Options{})
	require.NoError(t, err)
	defer f.Close()
	params, all := map[string]*autograd.Param{}, map[string][]float32{}
	for _, name := range f.Names() {
		shape, _ := f.Shape(name)
		params[name] = autograd.NewParam(shape...)
	}
	require.NoError(t, f.Import(params))
	for name, p := range params {
		all[name] = p.Export()
	}
	return all
}

// micro returns settings whose every part must not depend on the number of ranks.
func micro() map[string]train.Config {
	base := rat()
	base.Epochs, base.MicroShards = 2, 4
	adam, all, hire, foreign := base, base, base, base
	adam.Optimizer, adam.LR = train.DefaultAdam(), 0.01
	all.Loss, all.Recipe, all.ClipNorm, all.EMA = train.TRADES{Beta: 6}, train.AWP{Gamma: 0.05, Warmup: 1}, 0.5, 0.9
	all.Penalties = []train.Penalty{train.RatePenalty{Weight: 1}, train.CurrentPenalty{Layer: "n", Weight: 0.1}, train.MPPDPenalty{Layer: "n", Weight: 0.1, Decay: 0.99}}
	all.Monitor = constantMonitor{}
	hire.Recipe = train.HIRE{Periods: 3, Eps: 0.05}
	foreign.Optimizer = wrapped{train.DefaultSGD()}
	return map[string]train.Config{"SGD": base, "Adam": adam, "all": all, "HIRE": hire, "own optimizer": foreign}
}

// wrapped is an optimizer of which nothing is known.
type wrapped struct{ train.SGD }

type constantMonitor struct{}

func (constantMonitor) Measure(_ context.Context, m *snn.Model, epochs int) (map[string]float64, error) {
	return map[string]float64{"x": float64(epochs) / 3}, nil
}

// The same bits at 1, 2 and 4 ranks, of weights, metrics, checkpoint and average.
func TestRanksSameBits(t *testing.T) {
	for name, cfg := range micro() {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "SGD" && name != "all" {
				t.Skip("the other settings are enough for the race detector")
			}
			cfg.Validation = train.DefaultValidation(toy(t), invert{})
			cfg.Validation.BatchSize = 5
			model := func() *snn.Model { return tiny(t, nil) }
			want := trainOn(t, 1, model, cfg, filepath.Join(t.TempDir(), "c"), 0)
			require.Len(t, want.history, 2)
			for _, n := range []int{2, 4} {
				require.Equal(t, want, trainOn(t, n, model, cfg, filepath.Join(t.TempDir(), "c"), 0), "%d ranks", n)
			}
			// Stopped by one rank, and resumed at another number of ranks.
			path := filepath.Join(t.TempDir(), "c")
			trainOn(t, 2, model, cfg, path, 2)
			trainOn(t, 4, model, cfg, path, 2)
			require.Equal(t, want, trainOn(t, 1, model, cfg, path, 0))
		})
	}
}

// Micro-shards compute the gradients and statistics of the whole batch, rounded in another way.
func TestMicroShardsAreTheBatch(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.Loader.DropLast = 1, true
	cfg.Loss = train.CleanMix{Share: 0.5, Loss: train.CrossEntropy{}}
	cfg.Penalties = []train.Penalty{train.CurrentPenalty{Layer: "n", Weight: 0.1}, train.MPPDPenalty{Layer: "n", Weight: 0.5, Decay: 0.99}}
	model := func() *snn.Model { return tiny(t, nil) }
	whole := model()
	steps := fit(t, whole, cfg)
	for _, shards := range []int{1, 2, 8} {
		cfg.MicroShards = shards
		parts := model()
		got := fit(t, parts, cfg)
		assert.InDelta(t, steps[0].Loss, got[0].Loss, 1e-5)
		assert.InDelta(t, steps[0].Penalty, got[0].Penalty, 1e-6)
		assert.Equal(t, steps[0].Accuracy, got[0].Accuracy)
		assert.Equal(t, steps[0].FiringRate, got[0].FiringRate)
		for i, v := range values(whole) {
			for k, x := range v {
				require.InDelta(t, x, values(parts)[i][k], 1e-5, "%d micro-shards, %s", shards, whole.State()[i].Name)
			}
		}
	}
}

// A network without batch norm, and batches that the micro-shards do not divide.
func TestRanksWithoutBatchNorm(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.MicroShards, cfg.Simplex = 2, 4, nil
	model := func() *snn.Model {
		return tiny(t, func(c *zoo.Config) { c.Arch, c.BatchNorm = "conv4 A conv8 A | fc", false })
	}
	want := trainOn(t, 1, model, cfg, filepath.Join(t.TempDir(), "c"), 0)
	require.Equal(t, want, trainOn(t, 4, model, cfg, filepath.Join(t.TempDir(), "c"), 0))
}

// Micro-shards whose numbers of images differ between the ranks: 1 and 2 on the first, 2 and 2 on
// the second.
func TestRanksOfUnevenShards(t *testing.T) {
	cfg := micro()["SGD"]
	cfg.Loader.BatchSize, cfg.Loader.DropLast = 7, true
	model := func() *snn.Model { return tiny(t, nil) }
	want := trainOn(t, 1, model, cfg, filepath.Join(t.TempDir(), "c"), 0)
	require.Equal(t, want, trainOn(t, 2, model, cfg, filepath.Join(t.TempDir(), "c"), 0))
}

// A rank sends each of its gradients and weights once: 2·P·4·(n−1)/n bytes a step.
func TestBytesOfAStep(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.MicroShards = 1, 4
	for _, n := range []int{2, 4} {
		onRanks(n, func(r *goroutines) {
			cfg, model := cfg, tiny(t, nil)
			cfg.Ranks = r
			fit(t, model, cfg)
			values := 0
			for _, p := range model.Params() {
				values += len(p.Data())
			}
			want := 3 * 2 * values * 4 * (n - 1) / n
			assert.InEpsilon(t, want, r.sent.Load(), 0.1)
		})
	}
}

// tired is an adversary that fails on one rank.
type tired struct {
	noise
	on func() bool
}

func (f *tired) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if f.on() {
		return x, errors.New("no more images")
	}
	return f.noise.Perturb(ctx, m, x, y, ids, key)
}

// What fails on one rank is an error on all, which names the rank, and all are in the same
// state after it.
func TestFailureOfARank(t *testing.T) {
	cases := map[string]struct {
		spoil func(cfg *train.Config, m *snn.Model)
		want  string
	}{
		"forward of all its micro-shards": {func(cfg *train.Config, m *snn.Model) {
			cfg.MicroShards = 2
			cfg.Adversary = perturb(func(x tensor.NCHW) (tensor.NCHW, error) {
				x.Data[0] = float32(math.NaN())
				return x, nil
			})
		}, "NaN"},
		"first of three updates": {func(cfg *train.Config, m *snn.Model) {
			cfg.Recipe = train.HIRE{Periods: 3, Eps: 0.05}
			cfg.Simplex = func([]float32) error { return errors.New("no simplex") }
		}, "no simplex"},
		"adversary": {func(cfg *train.Config, m *snn.Model) {
			n := 0
			cfg.Adversary = &tired{noise{0.05}, func() bool { n++; return n == 2 }}
		}, "no more images"},
		"forward": {func(cfg *train.Config, m *snn.Model) {
			n := 0
			cfg.Adversary = perturb(func(x tensor.NCHW) (tensor.NCHW, error) {
				if n++; n == 2 {
					x.Data[0] = float32(math.NaN())
				}
				return x, nil
			})
		}, "NaN"},
		"loss": {func(cfg *train.Config, m *snn.Model) {
			n := 0
			cfg.Loss = badLoss{train.CrossEntropy{}, func() bool { n++; return n == 3 }}
		}, "that of image 0 of the batch is NaN"},
		"projection": {func(cfg *train.Config, m *snn.Model) {
			cfg.Simplex = func([]float32) error { return errors.New("no simplex") }
		}, "no simplex"},
		"recorder": {func(cfg *train.Config, m *snn.Model) {
			cfg.Recorders = []train.Recorder{train.CSV{Path: "/nowhere/file.csv"}}
		}, "/nowhere"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var after [2][][]float32
			began := time.Now()
			onRanks(2, func(r *goroutines) {
				cfg, model := rat(), tiny(t, nil)
				cfg.MicroShards, cfg.Ranks = 4, r
				if bad := 1; r.rank == bad || name == "recorder" {
					c.spoil(&cfg, model)
				} else { // the same by type, which a training compares
					other, m := cfg, tiny(t, nil)
					c.spoil(&other, m)
					switch name {
					case "adversary":
						cfg.Adversary = &tired{noise{0.05}, func() bool { return false }}
					case "first of three updates":
						cfg.Recipe = other.Recipe
					case "forward", "forward of all its micro-shards":
						cfg.MicroShards = other.MicroShards
						cfg.Adversary = perturb(func(x tensor.NCHW) (tensor.NCHW, error) { return x, nil })
					case "loss":
						cfg.Loss = badLoss{train.CrossEntropy{}, func() bool { return false }}
					}
				}
				tr, err := train.New(model, toy(t), cfg, rng.New(5))
				if !assert.NoError(t, err) {
					return
				}
				var last error
				for _, err := range tr.Epochs(context.Background()) {
					last = err
				}
				if assert.ErrorContains(t, last, c.want) && r.rank == 0 && name != "recorder" {
					assert.ErrorContains(t, last, "rank 1: ")
				}
				after[r.rank] = values(model)
			})
			assert.Equal(t, after[0], after[1])
			assert.Less(t, time.Since(began), 15*time.Second, "no rank waits for another in vain")
		})
	}
}

// Ranks whose folders hold different checkpoints are refused, and unchanged.
func TestResumeFromDifferentFolders(t *testing.T) {
	cfg, folders := micro()["SGD"], []string{t.TempDir(), t.TempDir()}
	for i, folder := range folders {
		trainOn(t, 1, func() *snn.Model { return tiny(t, nil) }, cfg, filepath.Join(folder, "c"), i+1)
	}
	onRanks(2, func(r *goroutines) {
		cfg, model := cfg, tiny(t, nil)
		cfg.Ranks = r
		tr, err := train.New(model, toy(t), cfg, rng.New(5))
		if assert.NoError(t, err) {
			before := values(model)
			err := tr.Resume(filepath.Join(folders[r.rank], "c"))
			assert.ErrorContains(t, err, "the file that rank 1 on ")
			assert.ErrorContains(t, err, "want a folder that all ranks share")
			assert.Equal(t, before, values(model))
			assert.Zero(t, tr.Completed())
		}
	})
}

// badLoss has a loss that is not a number now and then.
type badLoss struct {
	train.CrossEntropy
	now func() bool
}

func (l badLoss) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	grad, clean = l.CrossEntropy.Compute(losses, o)
	if l.now() {
		losses[0] = math.NaN()
	}
	return grad, clean
}

// Ranks of different trainings are refused, by all of them.
func TestRanksRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(cfg *train.Config, m *snn.Model, r *goroutines)
		want   string
	}{
		"no micro-shards":    {func(cfg *train.Config, _ *snn.Model, _ *goroutines) { cfg.MicroShards = 0 }, "train: Config.MicroShards is 0, want a power of two that the 2 ranks divide"},
		"an odd number":      {func(cfg *train.Config, _ *snn.Model, _ *goroutines) { cfg.MicroShards = 3 }, "Config.MicroShards is 3, want a power of two"},
		"too few":            {func(cfg *train.Config, _ *snn.Model, _ *goroutines) { cfg.MicroShards = 1 }, "want a power of two that the 2 ranks divide"},
		"too many":           {func(cfg *train.Config, _ *snn.Model, _ *goroutines) { cfg.MicroShards = 8 }, "want at most 6, the images of the smallest batch"},
		"one without shards": {func(cfg *train.Config, _ *snn.Model, r *goroutines) { cfg.MicroShards *= 1 - r.rank }, "rank 1: train: Config.MicroShards is 0"},
		"settings":           {func(cfg *train.Config, _ *snn.Model, r *goroutines) { cfg.LR += float64(r.rank) }, "is not the training of rank 0"},
		"validation": {func(cfg *train.Config, _ *snn.Model, r *goroutines) {
			cfg.Validation = train.DefaultValidation(toy(t), nil)
			cfg.Validation.Every += r.rank
		}, "Config.Validation is on "},
		"monitor": {func(cfg *train.Config, _ *snn.Model, r *goroutines) {
			cfg.Monitor = []train.Monitor{constantMonitor{}, nil}[r.rank]
		}, "Config.Monitor is none, but rank 0 has given"},
		"recorders": {func(cfg *train.Config, _ *snn.Model, r *goroutines) {
			cfg.Recorders = []train.Recorder{train.CSV{}}[r.rank:]
		}, "Config.Recorders is none, but rank 0 has given"},
		"rollback": {func(cfg *train.Config, _ *snn.Model, r *goroutines) { cfg.NoRollback = r.rank == 1 }, "Config.NoRollback is true, but rank 0 has false"},
		"weights":  {func(_ *train.Config, m *snn.Model, r *goroutines) { m.Init(rng.New(uint64(r.rank))) }, "the model of rank 1 on "},
	} {
		t.Run(name, func(t *testing.T) {
			onRanks(2, func(r *goroutines) {
				cfg, model := rat(), tiny(t, nil)
				cfg.MicroShards, cfg.Ranks = 4, r
				c.change(&cfg, model, r)
				_, err := train.New(model, toy(t), cfg, rng.New(5))
				if assert.Error(t, err) {
					assert.Contains(t, strings.Replace(err.Error(), "rank 1: rank 1", "rank 1", 1), strings.TrimPrefix(c.want, map[bool]string{true: "rank 1: "}[r.rank == 1]))
				}
			})
		})
	}
}

// shared multiplies by one parameter before batch norm and after it.
type shared struct {
	*snn.BatchNorm
	scale *autograd.Param
	tells func() bool // its operation has the method UsesParam
	skips func() bool // it does not multiply
}

func never() bool  { return false }
func always() bool { return true }

func (l *shared) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	if l.skips() {
		return l.BatchNorm.Forward(p, x)
	}
	return l.times(p.Tape, l.BatchNorm.Forward(p, l.times(p.Tape, x)))
}

func (l *shared) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	l.scale.Name = name + ".scale"
	s.Rows = append(s.Rows, snn.Row{Name: name + ".times", Kind: "times", In: in, Out: in, Params: []*autograd.Param{l.scale}})
	return l.BatchNorm.Describe(s, name, in)
}

func (l *shared) times(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	y := t.NewDense(x.Shape(), true)
	for i, v := range t.Floats(x) {
		t.Floats(y)[i] = l.scale.Data()[0] * v
	}
	op := &times{x, y, l.scale}
	if l.tells() {
		t.Record(&tellingTimes{*op}, x)
	} else {
		t.Record(op, x)
	}
	return y
}

type times struct {
	x, y  *autograd.Value
	scale *autograd.Param
}

func (o *times) Output() *autograd.Value { return o.y }

func (o *times) Backward(t *autograd.Tape) {
	dy, dx := t.GradEveryStep(o.y), make([]float32, len(t.Floats(o.x)))
	var sum float64
	for i, g := range dy {
		sum += float64(g * t.Floats(o.x)[i])
		dx[i] = o.scale.Data()[0] * g
	}
	o.scale.AddGrad([]float64{sum})
	t.AddGrad(o.x, dx, o.x.Shape().Steps)
}

type tellingTimes struct{ times }

func (o *tellingTimes) UsesParam(p *autograd.Param) bool { return p == o.scale }

// sharing returns a network of the given layers, followed by a shared.
func sharing(t testing.TB, tells, skips func() bool, below ...snn.Layer) *snn.Model {
	l := &shared{snn.NewBatchNorm(1), autograd.NewParam(), tells, skips}
	l.scale.Import([]float32{1.5})
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 3},
		snn.NewSequential(append(below, l, snn.NewIF(), snn.Flatten{}, snn.NewLinear(36, 3, true))...))
	require.NoError(t, err)
	m.Init(rng.New(1))
	return m
}

// A parameter of two operations has the sum of both gradients. Without the method UsesParam,
// its gradient is taken for complete after the first; that is an error and no wrong update.
func TestGradientAfterItsEnd(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.Simplex, cfg.MicroShards = 1, nil, 4
	build := func() *snn.Model { return sharing(t, always, never) }
	want := trainOn(t, 1, build, cfg, filepath.Join(t.TempDir(), "c"), 0)
	require.Equal(t, want, trainOn(t, 2, build, cfg, filepath.Join(t.TempDir(), "c"), 0))
	onRanks(2, func(r *goroutines) {
		cfg := cfg
		cfg.Ranks = r
		tr, err := train.New(sharing(t, never, never), toy(t), cfg, rng.New(5))
		if assert.NoError(t, err) {
			for _, err := range tr.Epochs(t.Context()) {
				assert.ErrorContains(t, err, "the gradient of 0.scale changed after the last operation that uses it")
			}
		}
	})
}

// After a failure in the backward pass of a rank, all ranks can go on. No transfer of the failed step
// is taken for a later one.
func TestGoOnAfterFailureInBackward(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.Simplex, cfg.MicroShards = 1, nil, 4
	for name, c := range map[string]struct {
		below func() []snn.Layer
		tells bool // of rank 1, at the second step
		want  string
	}{
		// Batch norm asks for the statistics of all ranks when the gradients above it are on their way.
		"while gradients move": {func() []snn.Layer { return []snn.Layer{snn.NewBatchNorm(1)} }, false, "lacks the method UsesParam"},
		"a gradient is missing": {func() []snn.Layer { return []snn.Layer{snn.NewBatchNorm(1)} }, true,
			"the parameters with a gradient of rank 1 differ from those of rank 0"},
		// Without a parameter below it, batch norm asks for nothing in the backward pass.
		"an operation is missing": {func() []snn.Layer { return nil }, true, "rank 0"},
	} {
		t.Run(name, func(t *testing.T) {
			untroubled := sharing(t, always, never, c.below()...)
			fit(t, untroubled, cfg)
			onRanks(2, func(r *goroutines) {
				bad, over := false, false
				tells := func() bool { return !bad || c.tells }
				skips := func() bool { return bad && c.tells }
				cfg, model := cfg, sharing(t, tells, skips, c.below()...)
				cfg.Ranks = r
				cfg.Progress = func(train.Progress) { bad = r.rank == 1 && !over }
				tr, err := train.New(model, toy(t), cfg, rng.New(5))
				if !assert.NoError(t, err) {
					return
				}
				for _, err := range tr.Epochs(t.Context()) {
					assert.ErrorContains(t, err, c.want)
				}
				assert.Zero(t, tr.Completed())
				bad, over = false, true
				for _, err := range tr.Epochs(t.Context()) {
					assert.NoError(t, err)
				}
				assert.Equal(t, values(untroubled), values(model))
			})
		})
	}
}
