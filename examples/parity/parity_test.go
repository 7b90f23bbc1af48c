package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the tests start this program as a user would.
func TestMain(m *testing.M) {
	if os.Getenv("SNNRAT_EXAMPLE") == "parity" {
		main()
	}
	os.Exit(m.Run())
}

func start(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "SNNRAT_EXAMPLE=parity")
	c.Stdout, c.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func golden(name string) string {
	return filepath.Join("..", "..", "internal", "parity", "testdata", name+".safetensors")
}

func TestAgrees(t *testing.T) {
	for _, name := range []string{"vgg_tiny", "wrn_tiny", "neuron_triangle_1.0_leak0.9_theta0.7"} {
		stdout, stderr, code := start(t, "-golden", golden(name))
		assert.Zero(t, code, stderr)
		assert.Empty(t, stderr)
		assert.Regexp(t, `\n\d+ tensors agree to 0.0001, all spikes equal\n$`, stdout)
	}
}

// full is a disk without space after some bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if n < len(p) {
		return n, errors.New("no space")
	}
	return n, nil
}

// Results that cannot be printed are an error, wherever the output ends.
func TestFullDisk(t *testing.T) {
	var all bytes.Buffer
	args := []string{"-golden", golden("vgg_tiny")}
	require.NoError(t, run(args, &all))
	for _, left := range []int{0, 10, all.Len() - 1} {
		assert.EqualError(t, run(args, &full{left}), "no space")
	}
}

// safetensors is a file taken apart.
type safetensors struct {
	header map[string]json.RawMessage
	data   []byte
}

func read(t *testing.T, path string) safetensors {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(b)
	f := safetensors{data: b[8+n:]}
	require.NoError(t, json.Unmarshal(b[8:8+n], &f.header))
	return f
}

func (f safetensors) write(t *testing.T, path string) {
	header, err := json.Marshal(f.header)
	require.NoError(t, err)
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	require.NoError(t, os.WriteFile(path, slices.Concat(b, header, f.data), 0o644))
}

// bytes are those of a tensor.
func (f safetensors) bytes(t *testing.T, name string) []byte {
	var info struct {
		Offsets [2]int `json:"data_offsets"`
	}
	require.NoError(t, json.Unmarshal(f.header[name], &info), name)
	return f.data[info.Offsets[0]:info.Offsets[1]]
}

func (f safetensors) meta(t *testing.T, change func(map[string]string)) {
	var meta map[string]string
	require.NoError(t, json.Unmarshal(f.header["__metadata__"], &meta))
	change(meta)
	b, err := json.Marshal(meta)
	require.NoError(t, err)
	f.header["__metadata__"] = b
}

// float replaces the first value of a tensor by a function of it.
func float(t *testing.T, b []byte, change func(float32) float32) {
	v := math.Float32frombits(binary.LittleEndian.Uint32(b))
	binary.LittleEndian.PutUint32(b, math.Float32bits(change(v)))
}

// A value or a spike that differs is found, in the line of its tensor, and only there.
func TestDiffers(t *testing.T) {
	for _, c := range []struct {
		file, tensor string
		change       func(float32) float32
	}{
		{"vgg_tiny", "eval.bptt.logits", func(v float32) float32 { return v + 1 }},
		{"vgg_tiny", "eval.cba.grad_x", func(v float32) float32 { return v + 1 }},
		{"vgg_tiny", "eval.cba.grad_x", func(v float32) float32 { return float32(math.NaN()) }},
		{"neuron_triangle_1.0_leak0.9_theta0.7", "grad_in_bptr", func(v float32) float32 { return v + 10 }},
	} {
		f := read(t, golden(c.file))
		float(t, f.bytes(t, c.tensor), c.change)
		path := filepath.Join(t.TempDir(), "differs.safetensors")
		f.write(t, path)
		stdout, stderr, code := start(t, "-golden", path)
		assert.Equal(t, 1, code)
		assert.Equal(t, 1, strings.Count(stdout, "FAIL"), stdout)
		assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(c.tensor)+` .* FAIL$`, stdout)
		assert.Regexp(t, `^parity: `+regexp.QuoteMeta(path)+`: 1 of \d+ tensors differ by more than 0.0001 or in a spike\n$`, stderr)
	}
}

func TestRefusals(t *testing.T) {
	folder := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, b, 0o644))
		return path
	}
	changed := func(name string, change func(f safetensors)) string {
		f := read(t, golden("vgg_tiny"))
		change(f)
		path := filepath.Join(folder, name)
		f.write(t, path)
		return path
	}
	meta := func(key, value string) func(safetensors) {
		return func(f safetensors) { f.meta(t, func(m map[string]string) { m[key] = value }) }
	}
	// A file of neurons whose currents have another shape, written with %d for all.
	neuron := func(name, shape string) string {
		f := read(t, golden("neuron_triangle_1.0_leak0.9_theta0.7"))
		var info struct {
			DType   string          `json:"dtype"`
			Shape   json.RawMessage `json:"shape"`
			Offsets [2]int          `json:"data_offsets"`
		}
		require.NoError(t, json.Unmarshal(f.header["x"], &info))
		info.Shape = fmt.Appendf(nil, shape, (info.Offsets[1]-info.Offsets[0])/4)
		header, err := json.Marshal(info)
		require.NoError(t, err)
		f.header["x"] = header
		path := filepath.Join(folder, name)
		f.write(t, path)
		return path
	}
	whole, err := os.ReadFile(golden("vgg_tiny"))
	require.NoError(t, err)
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{nil, []string{"-golden", "expected a file"}},
		{[]string{"-golden"}, []string{"-golden"}},
		{[]string{"-gold", "x"}, []string{"-gold"}},
		{[]string{"x"}, []string{`unexpected argument "x"`}},
		{[]string{"-golden", filepath.Join(folder, "none")}, []string{"none"}},
		{[]string{"-golden", folder}, []string{folder}},
		{[]string{"-golden", file("text", []byte("no tensors, but text of some length"))}, []string{"text", "not a safetensors file"}},
		{[]string{"-golden", file("empty", nil)}, []string{"empty", "not a safetensors file"}},
		{[]string{"-golden", file("truncated", whole[:len(whole)-4])}, []string{"truncated", "not a safetensors file"}},
		{[]string{"-golden", changed("other", func(f safetensors) {
			maps.DeleteFunc(f.header, func(k string, _ json.RawMessage) bool { return k == "__metadata__" })
		})}, []string{"other", "expected the vectors of a network"}},
		{[]string{"-golden", changed("arch", meta("arch", "resnet18"))}, []string{"arch", `"resnet18"`}},
		{[]string{"-golden", changed("shape", meta("arch", "conv16 A | fc5"))}, []string{"shape", "expected a tensor param."}},
		{[]string{"-golden", changed("T", meta("T", "four"))}, []string{"T", `"four"`, "expected a number"}},
		{[]string{"-golden", changed("steps", meta("T", "0"))}, []string{"steps", "0 time steps"}},
		{[]string{"-golden", changed("leak", meta("leak", "2"))}, []string{"leak", "2"}},
		{[]string{"-golden", changed("surrogate", meta("surrogate", "step"))}, []string{"surrogate", `"step"`}},
		{[]string{"-golden", changed("label", func(f safetensors) { f.bytes(t, "y")[0] = 200 })}, []string{"label", "200"}},
		{[]string{"-golden", neuron("currents", "[1,1,%d]")}, []string{"currents", "grad_out", "expected the same shape"}},
		{[]string{"-golden", neuron("flat", "[%d]")}, []string{"flat", "float32 tensor x with 3 dimensions"}},
		{[]string{"-golden", changed("image", func(f safetensors) {
			float(t, f.bytes(t, "x"), func(float32) float32 { return float32(math.NaN()) })
		})}, []string{"image", "NaN"}},
	} {
		stdout, stderr, code := start(t, c.args...)
		assert.Equal(t, 1, code, "%v", c.args)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, "parity: ") && strings.Count(stderr, "\n") == 1, "%v: %s", c.args, stderr)
		for _, part := range c.parts {
			assert.Contains(t, stderr, part, "%v", c.args)
		}
	}
}
