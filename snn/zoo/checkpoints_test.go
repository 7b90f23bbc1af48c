package zoo_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
)

// checkpoint returns the settings of the network of testdata/checkpoints.
func checkpoint() zoo.Config {
	cfg := zoo.Default("conv2 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Mean, cfg.Std = 1, 4, 4, 3, 4, nil, nil
	return cfg
}

// Checkpoints as other programs save them give the same network, to the bit where their
// values are the same, and what they have beside it is said.
func TestCheckpoints(t *testing.T) {
	logits := func(m *snn.Model) []float32 {
		x := tensor.NewNCHW(2, 1, 4, 4)
		for i := range x.Data {
			x.Data[i] = float32(i%7) / 7
		}
		z, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		return z
	}
	reference, err := zoo.LoadTorch("testdata/checkpoints/plain.pth", checkpoint())
	require.NoError(t, err)
	want := logits(reference)

	counted := "layer1.1.num_batches_tracked, which the model computes nothing with or has as settings, are passed over"
	objects := "objects of __builtin__.bytearray, __builtin__.frozenset, __builtin__.list, __builtin__.set, __builtin__.slice, _codecs.encode, argparse.Namespace, collections.Counter and 9 more are skipped: tensors and containers alone are built"
	for file, c := range map[string]struct {
		notes     []string
		tolerance float64
	}{
		"plain.pth":    {notes: []string{counted}},
		"compiled.pth": {notes: []string{"_orig_mod." + counted, "the prefix _orig_mod. of the tensors' names is passed over"}},
		"compiled_ddp.pth": {notes: []string{
			"the tensors are those of entry state_dict; beside it are passed over: none",
			"module._orig_mod." + counted, "the prefix module._orig_mod. of the tensors' names is passed over",
		}},
		"swa.pth":          {notes: []string{"module.layer1.1.num_batches_tracked, n_averaged, which the model", "the prefix module. of"}},
		"lightning.ckpt":   {notes: []string{"those of entry state_dict; beside it are passed over: epoch, global_step, hparams_name, hyper_parameters, pytorch-lightning_version", "model." + counted, "the prefix model. of"}},
		"wrapped.pth":      {notes: []string{"those of entry net; beside it are passed over: epoch", "basic_net." + counted, "the prefix basic_net. of"}},
		"half.pth":         {notes: []string{counted, "8 tensors of type F16 are widened to float32, which is exact"}, tolerance: 1e-3},
		"bfloat16.pth":     {notes: []string{counted, "8 tensors of type BF16 are widened"}, tolerance: 1e-2},
		"bf16.safetensors": {notes: []string{counted, "8 tensors of type BF16 are widened"}, tolerance: 1e-2},
		"double.pth":       {notes: []string{counted, "8 tensors of type F64 are rounded to the nearest float32"}},
		"protocol3.pth":    {notes: []string{counted}},
		"protocol4.pth":    {notes: []string{counted}},
		"protocol5.pth":    {notes: []string{counted}},
		"objects2.pth":     {notes: []string{"those of entry state_dict; beside it are passed over: args, array, bytes, counter, default, dtype, epoch, frozen and 9 more", objects, counted}},
		"objects4.pth":     {notes: []string{"those of entry state_dict", "objects of ", counted}},
		"shared.pth":       {},
		"negative.pth":     {notes: []string{counted}},
		"attributes.pth":   {notes: []string{counted}},
		"buffers.pth":      {notes: []string{"layer1.0.total_params, layer1.1.num_batches_tracked, lif1.beta, lif1.reset_mechanism_val, lif1.threshold, total_ops, which"}},
		"unchecked.pth":    {notes: []string{"the archive has no checksums: its content is not checked", counted}},
		"zipped.pth":       {notes: []string{counted}},
	} {
		var notes []string
		m, err := zoo.LoadTorchWith("testdata/checkpoints/"+file, checkpoint(), snn.LoadOptions{Note: func(s string) { notes = append(notes, s) }})
		require.NoError(t, err, file)
		if assert.Len(t, notes, len(c.notes), "%s: %q", file, notes) {
			for i, note := range c.notes {
				assert.Contains(t, notes[i], note, file)
			}
		}
		for i, p := range m.State() {
			for j, v := range p.Data() {
				if w := reference.State()[i].Data()[j]; c.tolerance == 0 {
					require.Equal(t, w, v, "%s: %s", file, p.Name)
				} else {
					require.InDelta(t, w, v, c.tolerance, "%s: %s", file, p.Name)
				}
			}
		}
		if c.tolerance == 0 {
			assert.Equal(t, want, logits(m), file)
		}
	}
}

// Checkpoints that cannot be the network are refused with the reason.
func TestCheckpointsRefused(t *testing.T) {
	for file, want := range map[string]string{
		"lzma.pth":       "not a PyTorch state dict: record byteorder is compressed by method 14: expected 0, stored, or 8, deflated",
		"float8.pth":     "tensor classifier.1.bias is of type torch.float8_e4m3fn: expected F32, F16, BF16 or F64",
		"uint16.pth":     "tensor classifier.1.bias is of type torch.uint16: expected F32, F16, BF16 or F64",
		"conjugate.pth":  "tensor classifier.1.bias is of type C64 with conjugated values: expected F32",
		"numpy.pth":      "entry classifier.1.bias is an object of numpy._core.multiarray._reconstruct: expected a tensor",
		"leaky.pth":      "tensor lif1.beta, value 0 is 0.8999999761581421: expected 1, as the model's settings say",
		"normalized.pth": "tensor model.mean, value 0 is 0.5: expected 0, as the model's settings say",
		"twice.pth":      "the file holds the model's tensors several times, with the prefixes ema., model.: expected them once",
		"variance.pth":   "snn: features.1.running_var: value 0 is -0.33650118: expected a variance that is positive with batch norm's eps",
		"overflow.pth":   "tensor layer1.0.bias, value 0 is 2.913888990879059e+299: expected a finite number of float32's range",
	} {
		_, err := zoo.LoadTorch("testdata/checkpoints/"+file, checkpoint())
		assert.ErrorContains(t, err, filepath.FromSlash("testdata/checkpoints/"+file)+": "+want)
	}
}
