package snn

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// Dataset is labelled data: images, or examples of a frame for each time step. A training,
// an evaluation and a loader of batches take any Dataset. dataset.Set is one.
//
// Its methods must be safe for concurrent use. A Dataset may also have some of these
// methods, each with the meaning that [DatasetInfo] gives its result:
//
//	NumClasses() int
//	ClassNames() []string
//	Normalization() (mean, std []float32)
//	Provenance() string
//	Fingerprint() (string, error) // a digest of labels and values, to tell data sets apart
//
// A checkpoint of a training holds the fingerprint. If the data set has none, it holds a
// digest of the labels.
type Dataset interface {
	// Shape returns the number of examples, and the frames, channels, rows and columns of
	// each. Steps is 1 for images, which are the same at every time step.
	Shape() tensor.Shape
	// Label returns the label of example i in [0, N).
	Label(i int) int
	// Fill writes example indices[k] to example k of dst, with values in [0,1]. dst has the
	// shape of the data set, with N = len(indices). Fill returns an error if an example
	// cannot be read.
	Fill(dst tensor.NCHW, indices []int) error
}

// DatasetInfo is what the optional methods of a [Dataset] return. A field is zero if it is
// unknown.
type DatasetInfo struct {
	Classes    int       // number of classes
	ClassNames []string  // [Classes], in the order of the labels
	Mean, Std  []float32 // [C], by which networks normalize the values
	Provenance string    // what the data were read from, in one line
}

// InfoOf returns what d knows about itself. Classes is the number of names if d has names,
// but no number of classes.
func InfoOf(d Dataset) (info DatasetInfo) {
	if d, ok := d.(interface{ ClassNames() []string }); ok {
		info.ClassNames = d.ClassNames()
		info.Classes = len(info.ClassNames)
	}
	if d, ok := d.(interface{ NumClasses() int }); ok && d.NumClasses() != 0 {
		info.Classes = d.NumClasses()
	}
	if d, ok := d.(interface {
		Normalization() (mean, std []float32)
	}); ok {
		info.Mean, info.Std = d.Normalization()
	}
	if d, ok := d.(interface{ Provenance() string }); ok {
		info.Provenance = d.Provenance()
	}
	return info
}

// ValidateDataset returns an error if the model cannot run on d:
//
//   - d has no examples, or examples of another shape than the model's;
//   - an example has several frames, but not one for each of the model's time steps;
//   - d has another number of classes, or another name for one of them. ValidateDataset
//     compares a class only where both sides know its name;
//   - a label is not in [0, Classes).
//
// ValidateDataset does not read the examples.
func (m *Model) ValidateDataset(d Dataset) error {
	s := d.Shape()
	switch {
	case s.N < 1:
		return fmt.Errorf("snn: a data set of no images: expected at least one")
	case s.C != m.Channels || s.H != m.Height || s.W != m.Width:
		return fmt.Errorf("snn: images of %d×%d×%d: the network expects %d×%d×%d", s.C, s.H, s.W, m.Channels, m.Height, m.Width)
	case s.Steps < 1:
		return fmt.Errorf("snn: a data set of %d frames: expected at least 1", s.Steps)
	}
	if err := validateFrames(s.Steps, m.Steps); err != nil {
		return err
	}
	if err := m.validateClasses(InfoOf(d)); err != nil {
		return err
	}
	for i := range s.N {
		if y := d.Label(i); y < 0 || y >= m.classes {
			return fmt.Errorf("snn: image %d: label %d: expected 0 to %d", i, y, m.classes-1)
		}
	}
	return nil
}

// validateClasses compares the classes of a data set with the model's. An accuracy over
// labels of other classes would be meaningless.
func (m *Model) validateClasses(of DatasetInfo) error {
	for _, n := range []int{of.Classes, len(of.ClassNames)} {
		if n != 0 && n != m.classes {
			return fmt.Errorf("snn: a data set of %d classes: the network has %d; expected the classes that it was trained on", n, m.classes)
		}
	}
	known := m.ClassNames()
	for i, name := range of.ClassNames {
		if i < len(known) && name != known[i] {
			return fmt.Errorf("snn: class %d is %q in the data set and %q in the network: expected the classes that it was trained on, in the same order", i, name, known[i])
		}
	}
	return nil
}

// validateClassNames returns an error if names has another number of names than the model
// has classes. It may be nil.
func (m *Model) validateClassNames(names []string) error {
	if names != nil && len(names) != m.classes {
		return fmt.Errorf("snn: %d names for the %d classes that the network ends in", len(names), m.classes)
	}
	return nil
}
