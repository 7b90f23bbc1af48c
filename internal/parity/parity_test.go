package parity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.safetensors")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			results, err := Check(f)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(results), 5)
			for _, r := range results {
				assert.True(t, r.OK(), "%+v", r)
			}
		})
	}
}

// A vector that is off by more than the tolerance, in any one tensor, is caught.
func TestCheckCatchesDifferences(t *testing.T) {
	for name, offset := range map[string]int{"testdata/vgg_tiny.safetensors": 8, "testdata/wrn_tiny.safetensors": 8} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		b[len(b)-offset] ^= 0x20 // a mantissa bit of the last tensor's last value but one
		b[len(b)-offset+1] ^= 0x20
		path := filepath.Join(t.TempDir(), "changed.safetensors")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		results, err := Check(path)
		require.NoError(t, err)
		bad := 0
		for _, r := range results {
			if !r.OK() {
				bad++
			}
		}
		assert.Equal(t, 1, bad, "%s", name)
	}
}

func TestCheckRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	_, err := Check(path)
	assert.ErrorContains(t, err, path)
	require.NoError(t, os.WriteFile(path, []byte("not tensors"), 0o644))
	_, err = Check(path)
	assert.ErrorContains(t, err, path)
}

// Other constants of batch norm are refused, not passed over.
func TestCheckRefusesOtherBatchNorm(t *testing.T) {
	b, err := os.ReadFile("testdata/vgg_tiny.safetensors")
	require.NoError(t, err)
	require.Contains(t, string(b), `"bn_eps": "1e-05"`)
	path := filepath.Join(t.TempDir(), "other.safetensors")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(b), `"bn_eps": "1e-05"`, `"bn_eps": "1e-03"`, 1)), 0o644))
	_, err = Check(path)
	assert.ErrorContains(t, err, "bn_eps 0.001")
}
