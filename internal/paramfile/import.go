package paramfile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
)

// bookkeeping are the last parts of the names of tensors that tools leave beside a
// network's, and that it computes nothing with.
var bookkeeping = []string{
	"num_batches_tracked", // PyTorch's batch norm
	"n_averaged",          // torch.optim.swa_utils.AveragedModel
	"total_ops",           // thop's profiler
	"total_params",
}

// Import sets the parameters from the tensors that they are listed by. The file must
// hold tensors of these names, which may have a prefix in common, such as module., and of
// the parameters' shapes, with finite values. Values of type F32 are taken as they are,
// F16 and BF16 are widened, and F64 is rounded to the nearest float32.
//
// Beside them the file may hold tensors without the prefix, tensors that tools leave for
// themselves, such as num_batches_tracked, and those that agree with Options.Settings. On
// an error, which names the tensors, all parameters are as they were.
func (f *File) Import(params map[string]*autograd.Param) error {
	return f.ImportChecked(params, func() error { return nil })
}

// ImportChecked is Import if check finds nothing wrong with the parameters' new values.
// On its error, too, all parameters are as they were.
func (f *File) ImportChecked(params map[string]*autograd.Param, check func() error) error {
	names := slices.Sorted(maps.Keys(params))
	prefix, err := f.prefix(names)
	if err != nil {
		return err
	}
	if err := f.lookBeside(params, prefix); err != nil {
		return err
	}
	types := map[string]int{}
	for _, name := range names {
		p, t := params[name], f.tensors[prefix+name]
		if !slices.Equal(t.shape, p.Shape) {
			return fmt.Errorf("tensor %s has shape %s: expected %v", shown(prefix+name), extents(t.shape), p.Shape)
		}
		if !floats[t.dtype] {
			return fmt.Errorf("tensor %s is of type %s: expected F32, F16, BF16 or F64", shown(prefix+name), t.dtype)
		}
		types[t.dtype]++
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(f.tensors[prefix+a].source, f.tensors[prefix+b].source)
	})
	read := map[string]*autograd.Param{}
	for _, name := range names {
		read[name] = autograd.NewParam(params[name].Shape...)
		if err := f.tensors[prefix+name].fill(read[name]); err != nil {
			return fmt.Errorf("tensor %s%w", shown(prefix+name), err)
		}
	}
	swap(params, read)
	if err := check(); err != nil {
		swap(params, read)
		return err
	}
	if prefix != "" {
		f.options.note("the prefix %s of the tensors' names is passed over", shown(prefix))
	}
	for _, dtype := range slices.Sorted(maps.Keys(types)) {
		switch dtype {
		case "F64":
			f.options.note("%d tensors of type F64 are rounded to the nearest float32", types[dtype])
		case "F16", "BF16":
			f.options.note("%d tensors of type %s are widened to float32, which is exact", types[dtype], dtype)
		}
	}
	return nil
}

// swap exchanges the values of parameters of the same names.
func swap(a, b map[string]*autograd.Param) {
	for name, p := range a {
		held := &autograd.Param{Shape: p.Shape}
		held.MoveFrom(p)
		p.MoveFrom(b[name])
		b[name].MoveFrom(held)
	}
}

// prefix returns what the file has before all names, nothing or words that end in a dot.
func (f *File) prefix(names []string) (string, error) {
	if len(names) == 0 {
		return "", nil
	}
	lacking := func(prefix string) (lacking []string) {
		for _, name := range names {
			if _, ok := f.tensors[prefix+name]; !ok {
				lacking = append(lacking, prefix+name)
			}
		}
		return lacking
	}
	best, least := "", lacking("")
	if len(least) == 0 {
		return "", nil
	}
	var whole []string
	tried := map[string]bool{"": true}
	for _, full := range f.Names() {
		for _, name := range []string{names[0], names[len(names)-1]} { // one of which may be what is lacking
			p, ok := strings.CutSuffix(full, name)
			if !ok || tried[p] || !strings.HasSuffix(p, ".") {
				continue
			}
			tried[p] = true
			l := lacking(p)
			if len(l) == 0 {
				whole = append(whole, p)
			}
			if len(l) < len(least) {
				best, least = p, l
			}
		}
	}
	if len(whole) > 1 {
		return "", fmt.Errorf("the file holds the model's tensors several times, with the prefixes %s: expected them once", list(whole))
	}
	for _, name := range least {
		if what, ok := f.others[name]; ok {
			return "", fmt.Errorf("entry %s is %s: expected a tensor", shown(name), what)
		}
	}
	if len(least) > 0 {
		var unknown []string
		for _, full := range f.Names() {
			name, ok := strings.CutPrefix(full, best)
			if _, known := slices.BinarySearch(names, name); !(ok && known) && !slices.Contains(bookkeeping, last(full)) {
				unknown = append(unknown, full)
			}
		}
		return "", fmt.Errorf("the file is of another architecture: it lacks %s of the model's tensors, and has %s beside them",
			list(least), list(unknown))
	}
	return best, nil
}

// lookBeside returns an error if there are tensors beside the parameters that must not be
// passed over.
func (f *File) lookBeside(params map[string]*autograd.Param, prefix string) error {
	var unknown, passed []string
	for _, full := range f.Names() {
		name, ours := strings.CutPrefix(full, prefix)
		if ours && params[name] != nil {
			continue
		}
		want, setting := f.options.Settings[last(full)]
		switch {
		case setting:
			if err := f.tensors[full].agrees(want); err != nil {
				return fmt.Errorf("tensor %s%w, as the model's settings say", shown(full), err)
			}
		case ours && !slices.Contains(bookkeeping, last(full)):
			unknown = append(unknown, full)
			continue
		}
		passed = append(passed, full)
	}
	if unknown != nil {
		return fmt.Errorf("the file is of another architecture: it lacks none of the model's tensors, and has %s beside them", list(unknown))
	}
	if passed != nil {
		f.options.note("%s, which the model computes nothing with or has as settings, are passed over", list(passed))
	}
	if f.others != nil {
		f.options.note("entries that are not tensors are passed over: %s", list(slices.Sorted(maps.Keys(f.others))))
	}
	return nil
}

// last returns the last part of a name.
func last(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// agrees returns an error if the tensor has other values than want; one value stands for
// any number of equal ones.
func (t tensor) agrees(want []float32) error {
	const most = 1 << 20
	n := 1
	for _, d := range t.shape {
		n = min(n*min(d, most), most)
	}
	values, err := t.values()
	if err != nil {
		return err
	}
	if n == most || len(want) != 1 && len(want) != n {
		return fmt.Errorf(" has shape %s: expected the values %v", extents(t.shape), want)
	}
	for i := range n {
		x, err := values()
		if err != nil {
			return fmt.Errorf(", value %d: %w", i, err)
		}
		if w := want[i%len(want)]; float32(x) != w {
			return fmt.Errorf(", value %d is %v: expected %v", i, x, w)
		}
	}
	return nil
}

// fill sets p to the tensor's values, which must be finite.
func (t tensor) fill(p *autograd.Param) error {
	values, err := t.values()
	if err != nil {
		return err
	}
	return p.Fill(func(i int) (float32, error) {
		x, err := values()
		if err != nil {
			return 0, fmt.Errorf(", value %d: %w", i, err)
		}
		if y := float32(x); x-x != 0 || y-y != 0 {
			return 0, fmt.Errorf(", value %d is %v: expected a finite number of float32's range", i, x)
		}
		return float32(x), nil
	})
}

// shown returns a name from a file for a message. A long or unprintable one is cut and quoted.
func shown(name string) string {
	const longest = 200
	if quoted := fmt.Sprintf("%.*q", longest, name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// extents returns a shape from a file for a message. Those of many dimensions are cut.
func extents[E any](shape []E) string {
	const most = 16
	if len(shape) > most {
		return fmt.Sprintf("%v and %d dimensions more", shape[:most], len(shape)-most)
	}
	return fmt.Sprint(shape)
}

// list writes names in a line, as shown does.
func list(names []string) string {
	const most = 8
	var some []string
	for _, name := range names[:min(most, len(names))] {
		some = append(some, shown(name))
	}
	switch n := len(names); {
	case n == 0:
		return "none"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(some, ", "), n-most)
	}
	return strings.Join(some, ", ")
}
