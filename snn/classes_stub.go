package snn

// ClassNames will come with the model's own.
func (m *Model) ClassNames() []string { return nil }
