//go:build !hdf5

package nir

import "errors"

var errNoHDF5 = errors.New("nir: this program was built without HDF5: install libhdf5-dev and build it with -tags hdf5")

// Read reads a graph from an HDF5 file. It returns an error if the program was built without the
// tag hdf5.
func Read(path string) (*Graph, error) { return nil, errNoHDF5 }

// Write writes the graph to an HDF5 file. It returns an error if the program was built without
// the tag hdf5.
func (g *Graph) Write(path string) error { return errNoHDF5 }
