package snn

import (
	"fmt"
	"io"
	"maps"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
)

// Save writes the model's state, its settings and Meta to a safetensors file, whole or not
// at all. Parameters and buffers have PyTorch-style names. Settings are the number of
// steps, the encoder, and those of neurons, batch norm and dropout, as they now are.
func (m *Model) Save(path string) error {
	if err := atomicfile.Write(path, m.Write); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	return nil
}

// Write writes what Save does.
func (m *Model) Write(w io.Writer) error {
	settings, err := m.settings()
	if err != nil {
		return err
	}
	meta := maps.Clone(m.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta[settingsKey] = settings
	return paramfile.Write(w, m.named(), meta)
}

func (m *Model) named() map[string]*autograd.Param {
	named := map[string]*autograd.Param{}
	for _, p := range m.State() {
		named[p.Name] = p
	}
	return named
}

// LoadOptions are how a file with a network's state is read.
type LoadOptions struct {
	// Budget bounds, in bytes, the memory that a file's own sizes can ask for: that of the
	// description of its tensors, of each record, and of all compressed records together.
	// 0 stands for 1 GiB.
	Budget int64
	// Note is told, one sentence each, what of the file is converted or passed over. nil
	// stands for nobody.
	Note func(string)
}

// Load sets the model's state from a safetensors file, or a PyTorch state dict as
// torch.save writes it, and adds the file's metadata to Meta; entries that Meta has stay,
// since they describe this model. The file must hold the model's tensors under its names,
// which may have a prefix in common such as module., and in its shapes. Values are F32, or
// F16, BF16 or F64, which are converted. Tensors beside the model's are an error, but for
// those that tools leave, such as num_batches_tracked, and those without the prefix.
//
// Load leaves the model's settings alone: its number of steps and its neurons may differ
// from the saved model's on purpose. SetSettings takes them over.
//
// On an error, which names the file and the tensor, the model is as it was. That includes
// the error of ValidateParams for the file's values.
func (m *Model) Load(path string) error { return m.LoadWith(path, LoadOptions{}) }

// LoadWith is Load with options.
func (m *Model) LoadWith(path string, o LoadOptions) error {
	f, err := paramfile.Open(path, paramfile.Options{Budget: o.Budget, Note: o.Note})
	if err == nil {
		defer f.Close()
		err = m.setState(f)
	}
	if err != nil {
		return fmt.Errorf("load model: %s: %w", path, err)
	}
	return nil
}

// SetState is Load from the content of a file.
func (m *Model) SetState(file []byte) error {
	f, err := paramfile.Parse(file, paramfile.Options{})
	if err != nil {
		return err
	}
	return m.setState(f)
}

func (m *Model) setState(f *paramfile.File) error {
	if err := f.ImportChecked(m.named(), m.ValidateParams); err != nil {
		return err
	}
	own := m.Meta
	m.Meta = maps.Clone(f.Meta)
	if m.Meta == nil {
		m.Meta = map[string]string{}
	}
	delete(m.Meta, settingsKey) // Write writes the model's own
	maps.Copy(m.Meta, own)
	return nil
}
