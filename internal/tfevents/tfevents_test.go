package tfevents

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// theirs is what TensorBoard 2.21.0 writes for the events of the test:
//
//	w = tensorboard.summary.writer.record_writer.RecordWriter(file)
//	for e in Event(wall_time=1700000000.5, file_version="brain.Event:2"),
//	         Event(wall_time=1700000000.5, session_log=SessionLog(status=SessionLog.START)),
//	         Event(wall_time=1700000000.5, step=3, summary=Summary(value=[
//	             Summary.Value(tag="train/loss", simple_value=0.7), Summary.Value(tag="lr", simple_value=0.1)])):
//	    w.write(e.SerializeToString())
const theirs = "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b3531100d000000000000003c37b8" +
	"340900002040fc54d9413a020801a870fdd52b00000000000000861bc34b0900002040fc54d94110032a1e0a110a0a747261696e2f6c6f7373" +
	"153333333f0a090a026c7215cdcccc3d41735aff"

func TestRecordsAreThoseOfTensorBoard(t *testing.T) {
	now := time.UnixMicro(1700000000_500000)
	got := append(begin(now), scalars(now, 3, []Value{{"train/loss", 0.7}, {"lr", 0.1}})...)
	assert.Equal(t, theirs, hex.EncodeToString(got))
}

// New files come last in the order of names, even after files of the future, and appending
// leaves what is there.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var names []string
	for i := range 12 {
		f, err := Create(dir)
		require.NoError(t, err)
		names = append(names, filepath.Base(f.path))
		before, err := os.ReadFile(f.path)
		require.NoError(t, err)
		require.NoError(t, f.Append(int64(i), []Value{{"a", 1}}))
		after, err := os.ReadFile(f.path)
		require.NoError(t, err)
		assert.Equal(t, before, after[:len(before)])
		assert.Greater(t, len(after), len(before)+20)
		if i == 5 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, prefix+"5000000000.host.1.0"), nil, 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, prefix+"x"), nil, 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "9000000000"), nil, 0o644))
		}
	}
	assert.True(t, slices.IsSorted(names), names)
	assert.Len(t, slices.Compact(names), 12)
	assert.True(t, strings.HasPrefix(names[6], prefix+"5000000001."), names[6])

	_, err := Create(filepath.Join(dir, names[0]))
	assert.ErrorContains(t, err, names[0])
}
