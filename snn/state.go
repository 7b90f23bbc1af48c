package snn

import (
	"fmt"
	"io"
	"maps"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/paramfile"
)

// Save writes the model to a safetensors file: its parameters and buffers, its settings, and
// Meta. The tensors have PyTorch-style names. The settings are the current number of steps,
// the encoder, the names of the classes, and those of neurons, batch norm and dropout. The structure of the layers is
// not in the file.
//
// Save replaces an existing file only once the new one is complete. It returns an error that
// names the file if writing fails.
func (m *Model) Save(path string) error {
	if err := atomicfile.Write(path, m.Write); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	return nil
}

// Write writes to w what Save writes to a file.
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

// named returns the parameters and buffers by name.
func (m *Model) named() map[string]*autograd.Param {
	named := map[string]*autograd.Param{}
	for _, p := range m.State() {
		named[p.Name] = p
	}
	return named
}

// LoadOptions are the options of reading a file with parameters.
type LoadOptions struct {
	// Budget bounds, in bytes, the memory that sizes in the file can claim. It holds for
	// the description of the tensors, for each record, and for all compressed records
	// together. 0 stands for 1 GiB.
	Budget int64
	// Note, if not nil, is called with one sentence for each conversion and for everything
	// that is ignored.
	Note func(string)
	// Settings, if true, sets the model's settings to those in the file, as SetSettings does.
	// If it is false, the model keeps its own, and Note is called if they differ.
	Settings bool
}

// Load sets the parameters and buffers from a file. The file is a safetensors file, or a
// PyTorch state dict that torch.save wrote.
//
//   - The file must hold all tensors of the model, with its names and shapes. All names may
//     have one prefix in common, such as module.
//   - Values have the type F32. Load converts those of type F16, BF16 and F64.
//   - Another tensor is an error. Load ignores the tensors that tools add, such as
//     num_batches_tracked, and tensors without the common prefix.
//
// Load adds the file's metadata to Meta, and keeps the entries that Meta has already. It leaves out
// package zoo's description of the file's network. It does not change the settings of the model,
// such as the number of steps and the neurons. LoadWith does if LoadOptions.Settings is set.
//
// Load returns an error that names the file and the tensor if the file does not fit, or if
// ValidateParams refuses its values. The model then stays as it was.
func (m *Model) Load(path string) error { return m.LoadWith(path, LoadOptions{}) }

// LoadWith is like Load, with options. An error about the settings of the file, which are
// read last, leaves the model partly changed.
func (m *Model) LoadWith(path string, o LoadOptions) error {
	f, err := paramfile.Open(path, paramfile.Options{Budget: o.Budget, Note: o.Note})
	if err == nil {
		defer f.Close()
		err = m.setState(f)
	}
	if err == nil {
		err = m.takeSettings(f.Meta, o)
	}
	if err != nil {
		return fmt.Errorf("load model: %s: %w", path, err)
	}
	return nil
}

// takeSettings takes over the settings in a file's metadata, or says that it does not.
func (m *Model) takeSettings(meta map[string]string, o LoadOptions) error {
	if o.Settings {
		return m.SetSettings(meta)
	}
	theirs, ok := meta[settingsKey]
	if own, err := m.settings(); ok && o.Note != nil && (err != nil || own != theirs) {
		o.Note(fmt.Sprintf("the settings of the file are not taken over: it has %s, the network %s", theirs, own))
	}
	return nil
}

// SetState is like Load, but takes the content of the file. Its errors do not name a file.
func (m *Model) SetState(file []byte) error {
	f, err := paramfile.Parse(file, paramfile.Options{})
	if err != nil {
		return err
	}
	return m.setState(f)
}

// setState sets parameters, buffers and Meta from f. On an error it changes nothing.
func (m *Model) setState(f *paramfile.File) error {
	if err := f.ImportChecked(m.named(), m.ValidateParams); err != nil {
		return err
	}
	own := m.Meta
	m.Meta = maps.Clone(f.Meta)
	if m.Meta == nil {
		m.Meta = map[string]string{}
	}
	delete(m.Meta, settingsKey)    // Write writes the model's own
	delete(m.Meta, descriptionKey) // layers without tensors may be others here
	maps.Copy(m.Meta, own)
	return nil
}
