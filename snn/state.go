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

// Load sets the model's state from a safetensors file, or a PyTorch state dict as
// torch.save writes it, and adds the file's metadata to Meta; entries that Meta has stay,
// since they describe this model. The file must hold float32 tensors of just the
// model's names and shapes (num_batches_tracked, which PyTorch's batch norm keeps, is
// passed over). ValidateParams must hold for them. Load does not change the model's
// settings: its number of steps and its neurons' may differ from the saved model's on
// purpose; SetSettings takes them over. On an error, which names the file and the tensor,
// the model is as it was.
func (m *Model) Load(path string) error {
	f, err := paramfile.Open(path)
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
	f, err := paramfile.Parse(file)
	if err != nil {
		return err
	}
	return m.setState(f)
}

func (m *Model) setState(f *paramfile.File) error {
	state := m.State()
	read := make(map[*autograd.Param]*autograd.Param, len(state))
	named := make(map[string]*autograd.Param, len(state))
	for _, p := range state {
		read[p] = autograd.NewParam(p.Shape...)
		named[p.Name] = read[p]
	}
	if err := f.Import(named); err != nil {
		return err
	}
	if err := m.validateParams(func(p *autograd.Param) *autograd.Param { return read[p] }); err != nil {
		return err
	}
	for _, p := range state {
		p.MoveFrom(read[p])
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
