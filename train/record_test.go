package train_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train"
)

func TestWriteCSV(t *testing.T) {
	attacked := 0.25
	var b bytes.Buffer
	require.NoError(t, train.WriteCSV(&b, []train.Metrics{
		{Epoch: 1, LR: 0.1, Loss: 2.5, Accuracy: 0.5, FiringRate: 0.125, Seconds: 2, ImagesPerSecond: 11},
		{Epoch: 2, LR: 0.05, Loss: 1. / 3, Penalty: 0.25, Measured: map[string]float64{"sigma_max/fc.weight": 3, "a,b": 1}, Validation: &train.Scores{}},
		{Epoch: 3, Measured: map[string]float64{"sigma_max/fc.weight": 2}, Validation: &train.Scores{Clean: 1, Attacked: &attacked}},
	}))
	assert.Equal(t, `epoch,lr,loss,penalty,accuracy,firing_rate,validation_clean,validation_attacked,seconds,images_per_second,"a,b",sigma_max/fc.weight
1,0.1,2.5,0,0.5,0.125,,,2,11,,
2,0.05,0.3333333333333333,0.25,0,0,0,,0,0,1,3
3,0,0,0,0,0,1,0.25,0,0,,2
`, b.String())
}

// scalars reads the event files of a folder as TensorBoard does: in the order of their names,
// with the scalars of a tag by step, and without those before a session start. It takes
// lengths on trust and ends a file where a record is cut off.
func scalars(t *testing.T, dir string) map[string]map[uint64][]float32 {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	tags := map[string]map[uint64][]float32{}
	for _, e := range entries {
		require.True(t, strings.HasPrefix(e.Name(), "events.out.tfevents."))
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		for len(b) >= 12 {
			n := int(binary.LittleEndian.Uint64(b))
			if len(b) < n+16 {
				break
			}
			event := message(t, b[12:12+n])
			b = b[n+16:]
			if event[7] != nil {
				clear(tags)
			}
			var step uint64
			if event[2] != nil {
				step, _ = protowire.ConsumeVarint(event[2][0])
			}
			for _, s := range event[5] {
				for _, v := range message(t, s)[1] {
					value := message(t, v)
					tag := string(value[1][0])
					if tags[tag] == nil {
						tags[tag] = map[uint64][]float32{}
					}
					bits, _ := protowire.ConsumeFixed32(value[2][0])
					tags[tag][step] = append(tags[tag][step], math.Float32frombits(bits))
				}
			}
		}
	}
	return tags
}

// message returns the contents of a protocol buffer's fields by their numbers.
func message(t *testing.T, b []byte) map[protowire.Number][][]byte {
	fields := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, kind, b)
		require.Positive(t, n)
		content := b[:n]
		if kind == protowire.BytesType {
			content, _ = protowire.ConsumeBytes(content)
		}
		fields[number] = append(fields[number], content)
		b = b[n:]
	}
	return fields
}

// A training that is killed at any point and resumed records every epoch once, with the
// numbers of an uninterrupted one.
//
// TensorBoard 2.21.0 itself has read the files of this test, after a resume from each of its
// three points. With SNNRAT_EVENTS=DIR, the test leaves them in DIR/0 to DIR/2 for
//
//	from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
//	a = EventAccumulator("DIR/0/events"); a.Reload(); a.Tags()["scalars"]; a.Scalars("train/loss")
//
// It gave the steps 1, 2 and 3 of train/loss once each, and dropped the scalars of earlier files.
func TestRecordersAfterResume(t *testing.T) {
	for _, from := range []int{0, 1, 2} {
		dir := t.TempDir()
		if kept := os.Getenv("SNNRAT_EVENTS"); kept != "" {
			dir = filepath.Join(kept, strconv.Itoa(from))
			require.NoError(t, os.MkdirAll(dir, 0o755))
		}
		events := filepath.Join(dir, "events")
		config := func() train.Config {
			cfg := rat()
			cfg.Monitor = constant{}
			cfg.Validation = train.DefaultValidation(toy(t), invert{})
			cfg.Validation.Every = 2
			cfg.Recorders = []train.Recorder{train.CSV{Path: filepath.Join(dir, "metrics.csv")}, &train.TensorBoard{Dir: events}}
			return cfg
		}
		checkpoint := saveAt(t, config(), from)
		// Ahead of the checkpoint, and killed in the midst of writing.
		want := fit(t, tiny(t, nil), config())
		files, err := filepath.Glob(filepath.Join(events, "*"))
		require.NoError(t, err)
		b, err := os.ReadFile(files[len(files)-1])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(files[len(files)-1], b[:len(b)-9], 0o644))

		tr := trainer(t, tiny(t, nil), config())
		require.NoError(t, tr.Resume(checkpoint))
		finish(t, tr)

		text, err := os.ReadFile(filepath.Join(dir, "metrics.csv"))
		require.NoError(t, err)
		var all bytes.Buffer
		require.NoError(t, train.WriteCSV(&all, tr.History()))
		assert.Equal(t, all.String(), string(text))
		lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 4)

		tags := scalars(t, events)
		for i, m := range want {
			step := uint64(i + 1)
			assert.Equal(t, []float32{float32(m.Loss)}, tags["train/loss"][step], "from %d: %v", from, tags)
			assert.Equal(t, []float32{float32(m.LR)}, tags["train/lr"][step])
			assert.Equal(t, []float32{7}, tags["constant/fc.weight"][step])
			if m.Validation != nil {
				assert.Equal(t, []float32{float32(m.Validation.Clean)}, tags["validation/clean"][step])
			}
		}
		assert.Len(t, tags["train/loss"], 3)
		assert.Len(t, tags["validation/attacked"], 2)
	}
}

// The same recorder follows a trainer that goes back to an earlier checkpoint.
func TestTensorBoardGoesBack(t *testing.T) {
	b := &train.TensorBoard{Dir: t.TempDir()}
	history := []train.Metrics{{Epoch: 1, Loss: 1}, {Epoch: 2, Loss: 2}, {Epoch: 3, Loss: 3}}
	for _, n := range []int{0, 1, 3, 3, 1, 2} {
		require.NoError(t, b.Record(history[:n]))
	}
	assert.Equal(t, map[uint64][]float32{1: {1}, 2: {2}}, scalars(t, b.Dir)["train/loss"])
}

// failing is a recorder that fails once, after some epochs.
type failing struct {
	at   int
	seen [][]int
}

func (f *failing) Record(history []train.Metrics) error {
	var epochs []int
	for _, m := range history {
		epochs = append(epochs, m.Epoch)
	}
	f.seen = append(f.seen, epochs)
	if len(history) == f.at {
		f.at = -1
		return errors.New("disk full")
	}
	return nil
}

// An error of a recorder ends the sequence, keeps the epoch, and the training goes on.
func TestRecorderFails(t *testing.T) {
	want := tiny(t, nil)
	fit(t, want, rat())
	cfg, f := rat(), &failing{at: 2}
	cfg.Recorders = []train.Recorder{f}
	model := tiny(t, nil)
	tr := trainer(t, model, cfg)
	var last error
	for _, last = range tr.Epochs(t.Context()) {
	}
	require.EqualError(t, last, "train: recorder *train_test.failing: disk full")
	assert.Len(t, tr.History(), 2)
	finish(t, tr)
	assert.Equal(t, [][]int{nil, {1}, {1, 2}, {1, 2}, {1, 2, 3}}, f.seen)
	assert.Equal(t, values(want), values(model))

	nowhere := filepath.Join(t.TempDir(), "nowhere", "metrics.csv")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for path, r := range map[string]train.Recorder{nowhere: train.CSV{Path: nowhere}, file: &train.TensorBoard{Dir: file}} {
		cfg.Recorders = []train.Recorder{r}
		steps := 0
		cfg.Progress = func(train.Progress) { steps++ }
		for _, err := range trainer(t, tiny(t, nil), cfg).Epochs(t.Context()) {
			assert.ErrorContains(t, err, path)
		}
		assert.Zero(t, steps, "known before the first step")
	}
}

// constant is a monitor.
type constant struct{}

func (constant) Measure(context.Context, *snn.Model, int) (map[string]float64, error) {
	return map[string]float64{"constant/fc.weight": 7}, nil
}
