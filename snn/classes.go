package snn

import "fmt"

// validateClassNames returns an error if names has another number of names than the model
// has classes. It may be nil.
func (m *Model) validateClassNames(names []string) error {
	if names != nil && len(names) != m.classes {
		return fmt.Errorf("snn: %d names for the %d classes that the network ends in", len(names), m.classes)
	}
	return nil
}

// ValidateClasses compares the classes of a labelled data set with the model's. It
// returns an error if their numbers differ, or if a class has one name in the data set
// and another in the model. An accuracy over such labels would be meaningless.
//
// n is the number of classes of the data set, or 0 if it is unknown. names holds their
// names in the order of the labels, or is nil if they are unknown. ValidateClasses compares
// a class only where both sides know its name.
func (m *Model) ValidateClasses(n int, names []string) error {
	for _, n := range []int{n, len(names)} {
		if n != 0 && n != m.classes {
			return fmt.Errorf("snn: a data set of %d classes: the network has %d; expected the classes that it was trained on", n, m.classes)
		}
	}
	known := m.ClassNames()
	for i, name := range names {
		if i < len(known) && name != known[i] {
			return fmt.Errorf("snn: class %d is %q in the data set and %q in the network: expected the classes that it was trained on, in the same order", i, name, known[i])
		}
	}
	return nil
}
