package pretrained

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
)

//go:embed *.safetensors
var files embed.FS

const ending = ".safetensors"

// Names returns the names of the networks in alphabetical order.
func Names() (names []string) {
	list, err := fs.Glob(files, "*"+ending)
	if err != nil {
		panic("pretrained: " + err.Error()) // the pattern is a valid one
	}
	for _, file := range list {
		names = append(names, strings.TrimSuffix(file, ending))
	}
	return names
}

// File returns the content of a network's safetensors file, a copy of its own. It returns an error
// that lists the names if there is no network of this name.
func File(name string) ([]byte, error) {
	b, err := files.ReadFile(name + ending)
	if err != nil {
		return nil, fmt.Errorf("pretrained: network %q: expected one of %s", name, strings.Join(Names(), ", "))
	}
	return b, nil
}

// Load returns a network, read anew, and its description. Its errors are those of [File].
func Load(name string) (*snn.Model, zoo.Config, error) {
	b, err := File(name)
	if err != nil {
		return nil, zoo.Config{}, err
	}
	m, cfg, err := zoo.Parse(b)
	if err != nil {
		return nil, cfg, fmt.Errorf("pretrained: network %q: %w", name, err)
	}
	return m, cfg, nil
}
