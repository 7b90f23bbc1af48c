package train

import (
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// validateBatchNorm returns an error that names the first batch norm that sees one value a
// channel in the smallest batch of an epoch: one image of one pixel at one step. Such a value
// has no variance: the output is the bias whatever the input is, and the running variance
// shrinks. set is the shape of the data set.
//
// Steps count once a layer of neurons has made them. A batch norm on a branch around such
// a layer is taken for one behind it; the pass itself returns an error then.
func validateBatchNorm(model *snn.Model, set tensor.Shape, cfg Config) error {
	size := cfg.Loader.BatchSize
	if size < 1 { // the loader's error
		return nil
	}
	last := (set.N-1)%size + 1
	if cfg.Loader.DropLast && size > 1 || last > 1 {
		return nil
	}
	made := model.Steps // by neurons
	if r, ok := cfg.Recipe.(interface{ PassSteps(steps int) int }); ok {
		made = r.PassSteps(made)
	}
	if _, ok := cfg.Gradient.(snn.CBA); ok {
		made = 1
	}
	steps := 1
	if _, ok := model.Encoder.(snn.Direct); !ok || set.Steps > 1 {
		steps = made
	}
	for _, r := range model.Summary().Rows {
		if r.Neurons > 0 {
			steps = made
		}
		if _, ok := r.Layer.(*snn.BatchNorm); !ok || steps*r.Out.Pixels() > 1 {
			continue
		}
		if size == 1 {
			return fmt.Errorf("train: batch norm %s has one value a channel in a batch of one image, want a larger Config.Loader.BatchSize", r.Name)
		}
		return fmt.Errorf("train: batch norm %s has one value a channel in the last batch, the one image left of %d in batches of %d: "+
			"set Config.Loader.DropLast or another BatchSize", r.Name, set.N, size)
	}
	return nil
}
