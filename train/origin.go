package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/autograd"
)

// trait is one of the things that a training depends on, and that must be the same
// for a checkpoint to be resumed.
type trait struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// compare returns an error that names the first trait that differs.
func compare(saved, now []trait) error {
	named := func(name string) func(trait) bool { return func(t trait) bool { return t.Name == name } }
	for _, s := range saved {
		if !slices.ContainsFunc(now, named(s.Name)) {
			return fmt.Errorf("%s is missing, but the checkpoint has %s", s.Name, s.Value)
		}
	}
	for _, n := range now {
		value := "none"
		if i := slices.IndexFunc(saved, named(n.Name)); i >= 0 {
			value = saved[i].Value
		}
		if value != n.Value {
			return fmt.Errorf("%s is %s, but the checkpoint has %s", n.Name, n.Value, value)
		}
	}
	return nil
}

// origin lists what the training depends on.
func (t *Trainer) origin() (traits []trait, err error) {
	add := func(name, format string, args ...any) {
		traits = append(traits, trait{name, fmt.Sprintf(format, args...)})
	}
	cfg := t.cfg
	cfg.Progress, cfg.Monitor, cfg.Loader.Prefetch = nil, nil, 0 // no results depend on them
	for v, i := reflect.ValueOf(cfg), 0; i < v.NumField(); i++ {
		add("Config."+v.Type().Field(i).Name, "%s", describe(v.Field(i), 0))
	}

	m := t.model
	add("the model's input", "%d×%d×%d", m.Channels, m.Height, m.Width)
	add("the model's number of steps", "%d", m.Steps)
	add("the model's encoder", "%s", describe(reflect.ValueOf(m.Encoder), 0))
	var settings []trait
	named := map[string]int{}
	for _, row := range m.Summary().Rows {
		name := "layer " + row.Name
		if named[name]++; named[name] > 1 { // such as that of no name
			name += fmt.Sprintf(" (%d)", named[name])
		}
		add(name, "%s, %d×%d×%d to %d×%d×%d", row.Kind, row.In.C, row.In.H, row.In.W, row.Out.C, row.Out.H, row.Out.W)
		settings = append(settings, trait{"the setting of " + name, describe(reflect.ValueOf(row.Layer), 0)})
	}
	for _, k := range slices.Sorted(maps.Keys(m.Meta)) {
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(m.Meta[k]), &fields) != nil {
			add("the model's Meta "+k, "%s", m.Meta[k])
		}
		for _, f := range slices.Sorted(maps.Keys(fields)) {
			add("the model's Meta "+k+" "+f, "%s", fields[f])
		}
	}

	traits = append(traits, settings...)

	s := t.set
	add("the set's size", "%d images of %d×%d×%d", s.N, s.C, s.H, s.W)
	names := s.ClassNames()
	for y := len(names); y < s.Classes; y++ { // a class without a name is its number
		names = append(names, strconv.Itoa(y))
	}
	add("the set's classes", "%s", strings.Join(names, ", "))
	content, err := s.Fingerprint()
	if err != nil {
		return nil, err
	}
	add("the set's content", "%s", content)
	add("the key", "the one with digest %s", shortHash(t.key[:]))
	return traits, nil
}

// shortHash returns the first half of a SHA-256.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// describe writes out a value with its types and its exported fields, the same in
// every process, but for parameters, whose values a checkpoint has anyway. Of a function
// it says only that there is one.
func describe(v reflect.Value, depth int) string {
	const deepest = 16 // of a value that is a cycle
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() || depth > deepest {
			return "none"
		}
		return describe(v.Elem(), depth+1)
	case reflect.Func:
		if v.IsNil() {
			return "none"
		}
		return "a function"
	case reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Type != reflect.TypeFor[*autograd.Param]() {
				fields = append(fields, f.Name+":"+describe(v.Field(i), depth+1))
			}
		}
		return v.Type().String() + "{" + strings.Join(fields, " ") + "}"
	case reflect.Slice, reflect.Array:
		elems := make([]string, v.Len())
		for i := range elems {
			elems[i] = describe(v.Index(i), depth+1)
		}
		return v.Type().String() + "{" + strings.Join(elems, " ") + "}"
	case reflect.Invalid:
		return "none"
	}
	return fmt.Sprint(v)
}
