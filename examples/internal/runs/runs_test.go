package runs_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
)

// A folder has one owner at a time, and the next one finds it clean.
func TestFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	f, err := runs.Open(path, "below")
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(path, "below"))
	for _, folder := range []string{"", "below"} {
		require.NoError(t, os.WriteFile(filepath.Join(path, folder, ".x.ckpt.7.tmp"), nil, 0o644))
	}
	_, err = runs.Open(path, "below")
	require.ErrorContains(t, err, path+": in use by ")
	assert.FileExists(t, filepath.Join(path, ".x.ckpt.7.tmp"), "its owner may be writing it")
	require.NoError(t, f.Close())
	f, err = runs.Open(path, "below")
	require.NoError(t, err)
	defer f.Close()
	for _, folder := range []string{"", "below"} {
		assert.NoFileExists(t, filepath.Join(path, folder, ".x.ckpt.7.tmp"))
	}
}

// A path that is no folder to write to is refused by name, and a FIFO without waiting.
func TestFolderRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	_, err := runs.Open(file)
	assert.ErrorContains(t, err, file+": expected a folder to write to: ")
	if runtime.GOOS != "windows" && os.Getuid() != 0 {
		closed := t.TempDir()
		require.NoError(t, os.Chmod(closed, 0o500))
		_, err = runs.Open(closed)
		assert.ErrorContains(t, err, closed+": expected a folder to write to: ")
	}
	folder := t.TempDir()
	clitest.FIFO(t, filepath.Join(folder, runs.LockName))
	_, err = runs.Open(folder)
	assert.ErrorContains(t, err, runs.LockName+" is a named pipe: expected a regular file")
	if runtime.GOOS != "windows" {
		linked := t.TempDir()
		require.NoError(t, os.Symlink(file, filepath.Join(linked, runs.LockName)))
		_, err = runs.Open(linked)
		assert.ErrorContains(t, err, runs.LockName+" is a symbolic link: expected a regular file")
	}
}

type content struct {
	Name  string `json:"name"`
	Items []int  `json:"items"`
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	want := content{"a <b> \"c\"", []int{1, 2, 30}}
	var got content
	assert.ErrorIs(t, runs.ReadRecord(path, &got, 1000), fs.ErrNotExist)
	require.NoError(t, runs.WriteRecord(path, want))
	require.NoError(t, runs.ReadRecord(path, &got, 1000))
	assert.Equal(t, want, got)
	b, err := os.ReadFile(path)
	require.NoError(t, err)

	// Every change of every byte, and every cut but that of the last line's end.
	for i := range b[:len(b)-1] {
		for bit := range 8 {
			changed := []byte(string(b))
			changed[i] ^= 1 << bit
			require.NoError(t, os.WriteFile(path, changed, 0o644))
			require.ErrorContains(t, runs.ReadRecord(path, &got, 1000), path, "byte %d, bit %d", i, bit)
		}
		require.NoError(t, os.WriteFile(path, b[:i], 0o644))
		require.ErrorContains(t, runs.ReadRecord(path, &got, 1000), path)
	}
	// Another type of record, and one that does not decode.
	require.NoError(t, runs.WriteRecord(path, map[string]int{"name": 1}))
	assert.ErrorContains(t, runs.ReadRecord(path, &got, 1000), path)
	require.NoError(t, runs.WriteRecord(path, map[string]int{"other": 1}))
	assert.ErrorContains(t, runs.ReadRecord(path, &got, 1000), `unknown field "other"`)
}

// A record larger than the budget is refused before it is read, whatever it is.
func TestRecordBudget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	require.NoError(t, runs.WriteRecord(path, content{Name: strings.Repeat("x", 1000)}))
	info, err := os.Stat(path)
	require.NoError(t, err)
	var got content
	require.NoError(t, runs.ReadRecord(path, &got, info.Size()))
	assert.ErrorContains(t, runs.ReadRecord(path, &got, info.Size()-1), "expected at most")
	require.NoError(t, os.Truncate(path, 1<<40)) // sparse
	start := time.Now()
	assert.ErrorContains(t, runs.ReadRecord(path, &got, runs.Budget(1000)), path+": 1099511627776 bytes: expected at most ")
	assert.Less(t, time.Since(start), time.Second)
	assert.ErrorContains(t, runs.ReadRecord(t.TempDir(), &got, 1000), " is a folder: expected a regular file")
	if runtime.GOOS == "linux" {
		assert.ErrorContains(t, runs.ReadRecord("/dev/zero", &got, 1000), "/dev/zero is a device: expected a regular file")
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	clitest.FIFO(t, fifo)
	assert.ErrorContains(t, runs.ReadRecord(fifo, &got, 1000), fifo+" is a named pipe: expected a regular file")
}

// Whatever a file holds, it is read without a panic, and only what was written is accepted.
func FuzzReadRecord(f *testing.F) {
	path := filepath.Join(f.TempDir(), "record")
	require.NoError(f, runs.WriteRecord(path, content{"a", []int{1}}))
	b, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"sha256":"`))
	f.Add([]byte(`{"sha256":"` + strings.Repeat("0", 64) + `",`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "record")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		var got content
		if err := runs.ReadRecord(path, &got, 1<<20); err != nil {
			assert.ErrorContains(t, err, path)
			return
		}
		require.NoError(t, runs.WriteRecord(path, got))
		require.NoError(t, runs.ReadRecord(path, &got, 1<<20))
	})
}

func TestVersion(t *testing.T) {
	v, err := runs.Version()
	require.NoError(t, err)
	assert.NotEmpty(t, v)
}

// course trains a small network from a checkpoint, and calls step after every step.
func course(t *testing.T, ctx context.Context, checkpoint string, interval time.Duration, lr float64, step func(train.Progress)) (*snn.Model, []train.Metrics, float64, error) {
	t.Helper()
	set, err := fashion.Train()
	require.NoError(t, err)
	set, err = set.First(64)
	require.NoError(t, err)
	cfg := zoo.Default("conv4 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Steps, cfg.Mean, cfg.Std = 1, 28, 28, 1, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	config := train.Default(2)
	config.Loader.BatchSize, config.LR, config.Progress = 16, lr, step
	resumed := -1.0
	metrics, err := runs.Training{
		Checkpoint: checkpoint, Interval: interval, Resumed: func(epochs float64) { resumed = epochs },
	}.Run(ctx, m, set, config, rng.New(1))
	return m, metrics, resumed, err
}

// values returns all parameters.
func values(m *snn.Model) (v []float32) {
	for _, p := range m.State() {
		v = append(v, p.Export()...)
	}
	return v
}

// A training that goes on from the checkpoint that it had at any step ends with the same bits;
// with a long interval, from the last epoch.
func TestTraining(t *testing.T) {
	folder := t.TempDir()
	for interval, want := range map[time.Duration][]float64{0: {0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75}, time.Hour: {0, 0, 0, 0, 1, 1, 1, 1}} {
		checkpoint := filepath.Join(folder, "whole.ckpt")
		require.NoError(t, runs.Remove(checkpoint))
		var kept [][]byte
		whole, metrics, resumed, err := course(t, t.Context(), checkpoint, interval, 0.1, func(train.Progress) {
			b, err := os.ReadFile(checkpoint) // that before the step
			require.NoError(t, err)
			kept = append(kept, b)
		})
		require.NoError(t, err)
		require.Len(t, metrics, 2)
		require.Zero(t, resumed)
		for i, b := range kept {
			path := filepath.Join(folder, "part.ckpt")
			require.NoError(t, os.WriteFile(path, b, 0o644))
			m, got, resumed, err := course(t, t.Context(), path, interval, 0.1, nil)
			require.NoError(t, err)
			assert.Equal(t, want[i], resumed)
			assert.Equal(t, values(whole), values(m))
			for k := range got {
				assert.Equal(t, metrics[k].Loss, got[k].Loss)
			}
		}
	}
}

// A folder that cannot hold a checkpoint is an error before the first step, and a training
// that fails at once leaves none.
func TestTrainingFails(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none", "x.ckpt")
	_, _, _, err := course(t, t.Context(), none, 0, 0.1, func(train.Progress) { t.Error("a step was made") })
	assert.ErrorContains(t, err, none)
	path := filepath.Join(t.TempDir(), "x.ckpt")
	_, _, _, err = course(t, t.Context(), path, time.Hour, 1e30, nil)
	assert.ErrorContains(t, err, "finite number")
	assert.NoFileExists(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, _, err = course(t, ctx, path, time.Hour, 0.1, func(train.Progress) { cancel() })
	assert.True(t, errors.Is(err, context.Canceled))
	_, _, resumed, err := course(t, t.Context(), path, time.Hour, 0.1, nil)
	require.NoError(t, err)
	assert.Equal(t, 0.25, resumed, "a stop loses no step")
}
