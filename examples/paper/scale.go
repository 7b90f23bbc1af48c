package main

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// scales are values for flags. The flags' own defaults are the paper's settings, full.
var scales = map[string]map[string]string{
	"full":  {},
	"small": {"width": "0.25", "T": "4", "train": "8000", "test": "500", "epochs": "6", "row-share": "0.3", "betas": "0.001,0.004,0.016", "hire-steps": "8", "rate-steps": "16"},
	"mini": {"arch": "small", "T": "4", "train": "6000", "test": "200", "epochs": "5", "eps": "8", "beta": "0.004", "test-eps": "16", "test-alpha": "0.02",
		"radii": "8,16", "train-radii": "4,8,12,16", "hire-eps": "8", "rate-steps": "16"},
	"tiny": {"width": "0.125", "T": "4", "train": "2000", "test": "100", "epochs": "6", "batch": "32", "betas": "0.001,0.016", "hire-steps": "8", "rate-steps": "8"},
}

func scaleNames() string { return strings.Join(slices.Sorted(maps.Keys(scales)), ", ") }

// applyScale sets the flags that the command line left out to the values of -scale.
func (o *options) applyScale(fs *flag.FlagSet) error {
	values, ok := scales[o.Scale]
	if !ok {
		return fmt.Errorf("-scale %q: expected one of %s", o.Scale, scaleNames())
	}
	for name, value := range values {
		if o.given[name] {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("-scale %s: -%s %s: %w", o.Scale, name, value, err)
		}
	}
	return nil
}

// describeScale says at which scale an experiment runs, beside the paper's.
func (o *options) describeScale(train, test int) string {
	if o.weights != "" {
		return fmt.Sprintf("Network of %s, trained elsewhere: width %v, T = %d; %d test images; seed %d", o.weights, o.Width, o.T, test, o.Seed)
	}
	eps := fmt.Sprint(o.Eps)
	if o.TrainRadii != nil {
		eps = o.TrainRadii.String()
	}
	text := fmt.Sprintf("width %v, T = %d, %d training images, %d epochs in batches of %d, learning rate %v, ε = %s/255 in training; %d test images; %s",
		o.Width, o.T, train, o.Epochs, o.Batch, o.LR, eps, test, o.seedText())
	if !o.BatchNorm {
		text += "; no batch norm"
	}
	if o.RowShare < 1 {
		text += fmt.Sprintf("; %v of the rows of large linear layers projected at a time", o.RowShare)
	}
	if o.Scale == "full" {
		return "Scale: " + text
	}
	return fmt.Sprintf("Scale %s: %s\n(the paper: width 1, T = 8, 50000 images, 200 epochs in batches of 64, learning rate 0.1, ε = 2/255; 10000 test images)", o.Scale, text)
}

// seedText names the seeds.
func (o *options) seedText() string {
	if len(o.Seeds) > 1 {
		return "seeds " + joined(o.Seeds)
	}
	return fmt.Sprintf("seed %d", o.Seed)
}
