package attack

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Wilson returns the 95 % score interval of a share of which k cases of n are known (Wilson
// 1927). It is [0, 1] if n is 0. Wilson panics if k is not in [0, n].
func Wilson(k, n int) (low, high float64) {
	if k < 0 || k > n {
		panic(fmt.Sprintf("attack: Wilson: %d cases of %d: expected a number from 0 to %d", k, n, n))
	}
	if n == 0 {
		return 0, 1
	}
	z := distuv.UnitNormal.Quantile(0.975)
	p, m := float64(k)/float64(n), float64(n)
	center := p + z*z/(2*m)
	half := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	low, high = (center-half)/(1+z*z/m), (center+half)/(1+z*z/m)
	// At the ends the bound is exact, and rounding must not leave [0, 1].
	if k == 0 {
		low = 0
	}
	if k == n {
		high = 1
	}
	return low, high
}

// Interval returns the 95 % interval by [Wilson] of one of the report's accuracies, such as
// r.WorstCase. It says how far the accuracy may be from that on all images of which the
// data are a random sample. It does not say whether a stronger attack exists.
func (r *Report) Interval(accuracy float64) (low, high float64) {
	return Wilson(r.correct(accuracy), r.Images)
}

// correct returns the number of images that an accuracy stands for.
func (r *Report) correct(accuracy float64) int {
	return int(math.Round(accuracy * float64(r.Images)))
}

// The names of the outcomes that are not of one attack.
const clean, worstCase = "clean", "worst case"

// Comparison is the result of [McNemar]: the number of images that two networks a and b
// classify as labelled.
type Comparison struct {
	Under   string `json:"under"`   // the outcome that is compared
	Both    int    `json:"both"`    // by both networks
	OnlyA   int    `json:"only_a"`  // by a alone
	OnlyB   int    `json:"only_b"`  // by b alone
	Neither int    `json:"neither"` // by neither network
	// P is the two-sided p-value: the probability of a difference between OnlyA and OnlyB
	// that is at least as large, if both networks had the same accuracy.
	P float64 `json:"p"`
}

// String returns the comparison in one line.
func (c Comparison) String() string {
	return fmt.Sprintf("%s: a and b classify %s correctly, a alone %d, b alone %d, neither %d; McNemar p = %.3g",
		c.Under, count(c.Both, "image"), c.OnlyA, c.OnlyB, c.Neither, c.P)
}

// McNemar compares the networks of two reports on the same images by the exact test of
// McNemar (1947). Under is "clean", "worst case" or the name of an attack. The test uses the
// images that one network alone classifies as labelled. If the accuracies are equal, OnlyA
// is binomial with probability 1/2.
//
// McNemar returns an error that names the difference if the reports
//
//   - are of no images, or not of the same images, labels or classes;
//   - have no such outcome;
//   - differ in the key or in how they attack: black-box or white-box, the threat model,
//     the attacks that count or their settings. For "clean" this does not matter.
func McNemar(a, b *Report, under string) (Comparison, error) {
	c, err := compare(a, b, under)
	if err != nil {
		return Comparison{}, fmt.Errorf("attack: McNemar: %w", err)
	}
	return c, nil
}

func compare(a, b *Report, under string) (c Comparison, err error) {
	for _, r := range []*Report{a, b} {
		if r == nil {
			return c, errors.New("a nil report: expected two reports")
		}
		if err := r.validate(); err != nil {
			return c, err
		}
	}
	if err := sameImages(a, b); err != nil {
		return c, err
	}
	rightA, err := a.right(under)
	if err != nil {
		return c, err
	}
	rightB, err := b.right(under)
	if err != nil {
		return c, err
	}
	if err := sameAttacks(a, b, under); err != nil {
		return c, err
	}
	c.Under = under
	for i := range rightA {
		switch {
		case rightA[i] && rightB[i]:
			c.Both++
		case rightA[i]:
			c.OnlyA++
		case rightB[i]:
			c.OnlyB++
		default:
			c.Neither++
		}
	}
	binomial := distuv.Binomial{N: float64(c.OnlyA + c.OnlyB), P: 0.5}
	c.P = min(1, 2*binomial.CDF(float64(min(c.OnlyA, c.OnlyB))))
	return c, nil
}

// right says for each image whether it is classified as labelled under an outcome.
func (r *Report) right(under string) ([]bool, error) {
	if under == worstCase {
		return r.Survived, nil
	}
	names := []string{clean, worstCase}
	for _, o := range append([]Outcome{r.Clean}, r.Attacks...) {
		if o.Name != under {
			names = append(names, o.Name)
			continue
		}
		right := make([]bool, r.Images)
		for i, y := range r.Labels {
			right[i] = o.Predicted[i] == y
		}
		return right, nil
	}
	slices.Sort(names)
	return nil, fmt.Errorf("a report without an outcome %q: expected one of %q", under, slices.Compact(names))
}

// sameImages returns an error if two reports are not of the same images.
func sameImages(a, b *Report) error {
	switch {
	case a.Images == 0 || b.Images == 0:
		return errors.New("a report of no images: expected at least one")
	case a.Images != b.Images:
		return fmt.Errorf("reports of %d and %d images: expected the same images", a.Images, b.Images)
	case a.shard() != b.shard():
		return fmt.Errorf("reports of the shards %q and %q: expected the same images", a.shard(), b.shard())
	case a.ClassNames != nil && b.ClassNames != nil && !slices.Equal(a.ClassNames, b.ClassNames):
		return fmt.Errorf("reports of the classes %q and %q: expected the same classes", a.ClassNames, b.ClassNames)
	}
	for i, y := range a.Labels {
		if y != b.Labels[i] {
			return fmt.Errorf("image %d has the labels %d and %d: expected reports of the same images", i, y, b.Labels[i])
		}
	}
	if a.Digest != "" && b.Digest != "" && a.Digest != b.Digest {
		return fmt.Errorf("images with the digests %.8s… and %.8s…: expected reports of the same images", a.Digest, b.Digest)
	}
	return nil
}

// sameAttacks returns an error if two reports have not come to an outcome in the same way.
func sameAttacks(a, b *Report, under string) error {
	kind := map[bool]string{false: "white-box", true: "black-box"}
	switch {
	case under == clean:
		return nil
	case a.BlackBox != b.BlackBox:
		return fmt.Errorf("%s and %s attacks: expected the same", kind[a.BlackBox], kind[b.BlackBox])
	case a.Key != b.Key:
		return fmt.Errorf("reports with the keys %.8s… and %.8s…: expected the same random numbers", a.Key, b.Key)
	case under == worstCase && (a.Norm != b.Norm || a.Eps != b.Eps):
		return fmt.Errorf("worst cases within %s %s and %s %s: expected one threat model", a.Norm, radius(a.Eps), b.Norm, radius(b.Eps))
	}
	listA, listB := a.counted(under), b.counted(under)
	names := slices.AppendSeq(slices.Collect(maps.Keys(listA)), maps.Keys(listB))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		x, inA := listA[name]
		y, inB := listB[name]
		switch {
		case !inA || !inB:
			return fmt.Errorf("attack %s counts in one worst case alone: expected the same attacks", name)
		case x.Norm != y.Norm || x.Eps != y.Eps:
			return fmt.Errorf("attack %s within %s %s and %s %s: expected one threat model", name, x.Norm, radius(x.Eps), y.Norm, radius(y.Eps))
		case !reflect.DeepEqual(x.Settings, y.Settings):
			textX, textY := x.settings(), y.settings()
			if textX == textY { // the difference is one that the text leaves out, such as KeepBest
				textX, textY = asJSON(x.Settings), asJSON(y.Settings)
			}
			return fmt.Errorf("attack %s with the settings %s and %s: expected the same", name, textX, textY)
		}
	}
	return nil
}

// counted returns the outcomes that an outcome is made of, by their names.
func (r *Report) counted(under string) map[string]Outcome {
	list := map[string]Outcome{}
	for _, o := range r.Attacks {
		if o.Name == under || under == worstCase && o.InWorstCase {
			list[o.Name] = o
		}
	}
	return list
}

// settings returns the attack's settings in quotes.
func (o Outcome) settings() string {
	if o.Settings == nil {
		return `""`
	}
	return fmt.Sprintf("%q", o.Settings.String())
}
