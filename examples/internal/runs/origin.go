package runs

import (
	"fmt"
	"maps"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/version"
)

// Maker says in a file of results which library and which kernels made them.
type Maker struct {
	Library string `json:"library"` // version
	Kernels string `json:"kernels"` // attack.Kernels of the machine
}

// NewMaker returns the maker of this program's results.
func NewMaker() Maker { return Maker{version.String(), attack.Kernels()} }

// Origin is what the results of a run depend on beside its shard.
type Origin struct {
	Flags   map[string]string `json:"flags"`
	Inputs  map[string]string `json:"inputs,omitempty"` // SHA-256 of the files and of the data
	Version string            `json:"version"`          // of the library
	Kernels string            `json:"kernels"`          // attack.Kernels of the machine
}

// NewOrigin returns the origin of results that this program makes from flags and inputs.
func NewOrigin(flags, inputs map[string]string) (Origin, error) {
	version, err := Version()
	return Origin{flags, inputs, version, attack.Kernels()}, err
}

// Same returns an error that names the first difference if the results of a file, which are of the
// origin of, are not of o.
func (o Origin) Same(path string, of Origin) error {
	const expected = "expected shards that differ in -shard, -out and -threads alone"
	if of.Version != o.Version {
		return fmt.Errorf("%s was made by version %q of the program, but this is %q: %s", path, of.Version, o.Version, expected)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Flags)) {
		if was, is := of.Flags[name], o.Flags[name]; was != is {
			return fmt.Errorf("%s has -%s %q, but this run has %q: %s", path, name, was, is, expected)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Inputs)) {
		if was, is := of.Inputs[name], o.Inputs[name]; was != is {
			return fmt.Errorf("%s has %s with the SHA-256 %q, but this run has %q: %s", path, name, was, is, expected)
		}
	}
	if of.Kernels != o.Kernels {
		return fmt.Errorf("%s was made with the kernels %q, but here they are %q: expected machines of one kind, or SNNRAT_KERNEL", path, of.Kernels, o.Kernels)
	}
	return nil
}
