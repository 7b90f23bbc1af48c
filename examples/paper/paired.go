package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// correct says for each seed and test image whether a network of this seed classifies the image
// as labelled.
type correct [][]bool // [seeds][images]

// paired compares the accuracies of two kinds of networks on the same test images.
type paired struct {
	Of    string `json:"of"`   // what is compared with
	With  string `json:"with"` // this
	Under string `json:"under"`
	// Difference is the accuracy of Of minus that of With, the mean over seeds and images.
	Difference float64 `json:"difference"`
	// Low and High are the 95 % interval of Difference: percentiles of a bootstrap that draws
	// seeds and images, with replacement and independently of each other (Owen: The pigeonhole
	// bootstrap, Annals of Applied Statistics 2007). With one seed, they hold for this seed alone.
	Low     float64   `json:"low"`
	High    float64   `json:"high"`
	PerSeed []float64 `json:"per_seed"` // Difference of each seed
	// OnlyOf and OnlyWith count the pairs of a seed and an image that one of the two alone
	// classifies as labelled. P is the two-sided p-value of McNemar's exact test of these. The
	// test takes the seeds as given and all pairs as independent. An interaction has none.
	OnlyOf   int      `json:"only_of,omitempty"`
	OnlyWith int      `json:"only_with,omitempty"`
	P        *float64 `json:"mcnemar_p,omitempty"`
	// Verdict is higher or lower if the interval does not contain 0, and undecided otherwise.
	Verdict string `json:"verdict"`
}

// values returns 1 for an image that is classified as labelled, and 0 for another. [seeds][images]
func (c correct) values() [][]float64 {
	v := make([][]float64, len(c))
	for s, right := range c {
		v[s] = make([]float64, len(right))
		for i, ok := range right {
			if ok {
				v[s][i] = 1
			}
		}
	}
	return v
}

// comparePairs compares a with b, of as many seeds and images.
func comparePairs(a, b correct) paired {
	p := bootstrapped(minus(a, b))
	for s := range a {
		for i := range a[s] {
			switch {
			case a[s][i] && !b[s][i]:
				p.OnlyOf++
			case b[s][i] && !a[s][i]:
				p.OnlyWith++
			}
		}
	}
	binomial := distuv.Binomial{N: float64(p.OnlyOf + p.OnlyWith), P: 0.5}
	mcNemar := min(1, 2*binomial.CDF(float64(min(p.OnlyOf, p.OnlyWith))))
	p.P = &mcNemar
	return p
}

// minus returns the difference of every pair of a seed and an image.
func minus(a, b correct) [][]float64 {
	d, less := a.values(), b.values()
	for s := range d {
		floats.Sub(d[s], less[s])
	}
	return d
}

// resamples is the number of samples of a bootstrap.
const resamples = 4000

// bootstrapped returns the mean of d [seeds][images] with its interval.
func bootstrapped(d [][]float64) paired {
	seeds, images := len(d), len(d[0])
	p := paired{Verdict: "undecided"}
	for _, of := range d {
		p.PerSeed = append(p.PerSeed, stat.Mean(of, nil))
	}
	p.Difference = stat.Mean(p.PerSeed, nil)
	r := rand.New(rand.NewPCG(1, 1))
	means := make([]float64, resamples)
	drawn, ofSeeds := make([]float64, images), make([]float64, seeds)
	for k := range means {
		clear(drawn)
		for range images {
			drawn[r.IntN(images)]++
		}
		for s := range ofSeeds {
			ofSeeds[s] = stat.Mean(d[r.IntN(seeds)], drawn)
		}
		means[k] = stat.Mean(ofSeeds, nil)
	}
	slices.Sort(means)
	p.Low, p.High = means[resamples/40], means[resamples-1-resamples/40]
	switch {
	case p.Low > 0:
		p.Verdict = "higher"
	case p.High < 0:
		p.Verdict = "lower"
	}
	return p
}

// cells returns the comparison as cells of a table, in points.
func (p paired) cells() []string {
	points := func(v float64) string { return fmt.Sprintf("%+.1f", 100*v) }
	each := ""
	for i, v := range p.PerSeed {
		if i > 0 {
			each += " "
		}
		each += points(v)
	}
	test := "–"
	if p.P != nil {
		test = fmt.Sprintf("%.2g", *p.P)
	}
	return []string{p.Of, p.With, p.Under, points(p.Difference), points(p.Low) + " to " + points(p.High), each, test, p.Verdict}
}

// pairedHeading is the heading of a table of comparisons.
var pairedHeading = []string{"points of accuracy", "against", "under", "difference", "95 % interval", "each seed", "McNemar p", ""}

// pairedNote explains a table of comparisons.
func (o *options) pairedNote() string {
	note := "Differences are those of networks of the same seed on the same images. The intervals are of a bootstrap over seeds and images.\n" +
		"McNemar's exact test takes the seeds as given. No figure is corrected for the number of comparisons.\n"
	switch n := len(o.Seeds); {
	case n == 1:
		note += "With one seed, all of this holds for the networks of that seed alone.\n"
	case n < 6: // from 6 on, that chance is below 5 %
		note += fmt.Sprintf("Chance alone gives %d seeds the same sign with the chance 1/%d. The interval can then exclude 0.\n", n, 1<<(n-1))
	}
	return note
}
