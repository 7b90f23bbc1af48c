package snn

import "fmt"

// ValidateClasses compares the classes of a labelled data set with the model's. It
// returns an error if their numbers differ, or if a class has one name in the data set
// and another in the model: an accuracy by such labels is that of other classes.
//
// n is the number of classes of the data set, names their names in the order of the
// labels. 0 and nil stand for unknown; what is unknown, there or in the model, is not
// compared.
func (m *Model) ValidateClasses(n int, names []string) error {
	if n == 0 {
		n = len(names)
	}
	if n != 0 && n != m.classes {
		return fmt.Errorf("snn: a data set of %d classes: the network has %d; expected the classes that it was trained on", n, m.classes)
	}
	known := m.ClassNames()
	for i, name := range names {
		if known != nil && name != known[i] {
			return fmt.Errorf("snn: class %d is %q in the data set and %q in the network: expected the classes that it was trained on, in the same order", i, name, known[i])
		}
	}
	return nil
}
