package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// trait is one property that a training depends on. A checkpoint is resumed only by a
// training of the same traits.
type trait struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// compare returns an error that names the first trait that differs. who has the saved traits.
func compare(saved, now []trait, who string) error {
	named := func(name string) func(trait) bool { return func(t trait) bool { return t.Name == name } }
	for _, s := range saved {
		if !slices.ContainsFunc(now, named(s.Name)) {
			return fmt.Errorf("%s is missing, but %s has %s", s.Name, who, s.Value)
		}
	}
	for _, n := range now {
		value := "none"
		if i := slices.IndexFunc(saved, named(n.Name)); i >= 0 {
			value = saved[i].Value
		}
		if value != n.Value {
			return fmt.Errorf("%s is %s, but %s has %s", n.Name, n.Value, who, value)
		}
	}
	return nil
}

// origin returns the traits of the training.
func (t *Trainer) origin() (traits []trait, err error) {
	add := func(name, format string, args ...any) {
		traits = append(traits, trait{name, fmt.Sprintf(format, args...)})
	}
	cfg := t.cfg
	// Results do not depend on these.
	cfg.Progress, cfg.Monitor, cfg.Recorders, cfg.Validation, cfg.Loader.Prefetch = nil, nil, nil, nil, 0
	cfg.NoRollback, cfg.Ranks, cfg.MixedRanks = false, nil, false
	for v, i := reflect.ValueOf(cfg), 0; i < v.NumField(); i++ {
		add("Config."+v.Type().Field(i).Name, "%s", describe(v.Field(i)))
	}

	m := t.model
	add("the model's input", "%d×%d×%d", m.Channels, m.Height, m.Width)
	add("the model's number of steps", "%d", m.Steps)
	add("the model's encoder", "%s", describe(reflect.ValueOf(m.Encoder)))
	var settings []trait
	named := map[string]int{}
	for _, row := range m.Summary().Rows {
		name := "layer " + row.Name
		if named[name]++; named[name] > 1 { // such as that of no name
			name += fmt.Sprintf(" (%d)", named[name])
		}
		add(name, "%s, %d×%d×%d to %d×%d×%d", row.Kind, row.In.C, row.In.H, row.In.W, row.Out.C, row.Out.H, row.Out.W)
		settings = append(settings, trait{"the setting of " + name, describe(reflect.ValueOf(row.Layer))})
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

	s, info := t.set.Shape(), snn.InfoOf(t.set)
	images := "images"
	if s.Steps > 1 {
		images = fmt.Sprintf("examples of %d frames", s.Steps)
	}
	add("the set's size", "%d %s of %d×%d×%d", s.N, images, s.C, s.H, s.W)
	names := slices.Clone(info.ClassNames)
	for y := len(names); y < m.Classes(); y++ { // a class without a name is its number
		names = append(names, strconv.Itoa(y))
	}
	add("the set's classes", "%s", strings.Join(names, ", "))
	content, err := content(t.set)
	if err != nil {
		return nil, err
	}
	add("the set's content", "%s", content)
	add("the key", "the one with digest %s", shortHash(t.key[:]))
	return traits, nil
}

// onRanks returns the traits that do not change the training, but must be the same on all of its
// ranks, since these measure and write together.
func (t *Trainer) onRanks() ([]trait, error) {
	given := func(is bool) string {
		if is {
			return "given"
		}
		return "none"
	}
	validation := "none"
	if v := t.cfg.Validation; v != nil {
		content, err := content(v.Set)
		if err != nil {
			return nil, fmt.Errorf("train: Config.Validation.Set: %w", err)
		}
		validation = fmt.Sprintf("on %v (%s) after every %d epochs in batches of %d, adversary %s",
			v.Set.Shape(), content, v.Every, v.BatchSize, describe(reflect.ValueOf(v.Adversary)))
	}
	return []trait{
		{"Config.NoRollback", strconv.FormatBool(t.cfg.NoRollback)},
		{"Config.Validation", validation},
		{"Config.Monitor", given(t.cfg.Monitor != nil)},
		{"Config.Recorders", given(len(t.cfg.Recorders) > 0)},
	}, nil
}

// content returns the fingerprint of a set, or a digest of its labels if it has none.
func content(set snn.Dataset) (string, error) {
	if set, ok := set.(interface{ Fingerprint() (string, error) }); ok {
		return set.Fingerprint()
	}
	var b []byte
	for i := range set.Shape().N {
		b = binary.LittleEndian.AppendUint64(b, uint64(set.Label(i)))
	}
	return "labels " + shortHash(b), nil
}

// shortHash returns the first half of a SHA-256.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// describe writes out a value: its types, and the content of its exported and embedded
// fields, maps and slices. The text is the same in every process. Of a function, a channel
// or an unsafe pointer, it says only that there is one. Parameters are left out, since a
// checkpoint has their values.
func describe(v reflect.Value) string { return describer{}.describe(v) }

// describer holds the addresses that are being described, to notice a cycle.
type describer map[visit]bool

type visit struct {
	kind reflect.Type
	at   uintptr
	len  int
}

func (d describer) describe(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Func, reflect.Chan:
		if v.IsNil() {
			return "none"
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		here := visit{kind: v.Type(), at: v.Pointer()}
		if v.Kind() == reflect.Slice {
			here.len = v.Len()
		}
		if d[here] {
			return "a cycle"
		}
		d[here] = true
		defer delete(d, here)
	}
	switch v.Kind() {
	case reflect.Invalid:
		return "none"
	case reflect.Interface, reflect.Pointer:
		return d.describe(v.Elem())
	case reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if (f.IsExported() || f.Anonymous) && f.Type != reflect.TypeFor[*autograd.Param]() {
				fields = append(fields, f.Name+":"+d.describe(v.Field(i)))
			}
		}
		return braces(v, fields)
	case reflect.Slice, reflect.Array:
		elems := make([]string, v.Len())
		for i := range elems {
			elems[i] = d.describe(v.Index(i))
		}
		return braces(v, elems)
	case reflect.Map:
		var entries []string
		for iter := v.MapRange(); iter.Next(); {
			entries = append(entries, d.describe(iter.Key())+":"+d.describe(iter.Value()))
		}
		slices.Sort(entries)
		return braces(v, entries)
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Func:
		return "a function"
	case reflect.Chan:
		return "a channel"
	case reflect.UnsafePointer:
		return "a pointer"
	}
	return fmt.Sprint(v) // a number or a bool
}

func braces(v reflect.Value, parts []string) string {
	return v.Type().String() + "{" + strings.Join(parts, " ") + "}"
}
