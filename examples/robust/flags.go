package main

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/examples/internal/nets"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("expected a file")
	}
	*l = append(*l, s)
	return nil
}

// radius is a flag of a positive number, which may be written as a fraction.
type radius struct {
	text  string
	value float64
}

func (r *radius) String() string { return r.text }

func (r *radius) Set(s string) error {
	v, ok := fraction(s)
	if !ok {
		return errors.New("expected a positive number such as 8/255 or 0.03")
	}
	*r = radius{s, v}
	return nil
}

// fraction reads a positive and finite number or fraction.
func fraction(s string) (v float64, ok bool) {
	over, under, divided := strings.Cut(s, "/")
	v, err := strconv.ParseFloat(strings.TrimSpace(over), 64)
	if divided && err == nil {
		var d float64
		if d, err = strconv.ParseFloat(strings.TrimSpace(under), 64); err == nil {
			v /= d
		}
	}
	return v, err == nil && float32(v) > 0 && !math.IsInf(float64(float32(v)), 0)
}

// factors is a flag of increasing multiples of ε.
type factors []string

func (f *factors) String() string {
	if len(*f) == 0 {
		return "none"
	}
	return strings.Join(*f, ",")
}

func (f *factors) Set(s string) error {
	*f = nil
	if s == "none" {
		return nil
	}
	last := 0.0
	for text := range strings.SplitSeq(s, ",") {
		v, ok := fraction(text)
		if !ok || v <= last {
			return errors.New("expected none, or increasing positive numbers such as 1/2,1,2")
		}
		*f, last = append(*f, text), v
	}
	return nil
}

// sameFile returns two of the files that are the same one, or "".
func sameFile(files []string) (a, b string) {
	infos := make([]os.FileInfo, len(files))
	for i, f := range files {
		infos[i], _ = os.Stat(f) // a file that is not there shows when it is read
		for k, g := range files[:i] {
			if filepath.Clean(f) == filepath.Clean(g) || infos[i] != nil && infos[k] != nil && os.SameFile(infos[i], infos[k]) {
				return g, f
			}
		}
	}
	return "", ""
}

// names returns a name for each file, from the end of its path or after "pretrained:". No two are the same.
func names(files []string) []string {
	list := make([]string, len(files))
	taken := map[string]bool{}
	for i, f := range files {
		f = strings.TrimPrefix(f, nets.Pretrained)
		name := strings.TrimSuffix(filepath.Base(f), filepath.Ext(f))
		if name == "" {
			name = filepath.Base(f)
		}
		list[i] = name
		for n := 2; taken[strings.ToLower(list[i])]; n++ { // some file systems ignore case
			list[i] = name + "-" + strconv.Itoa(n)
		}
		taken[strings.ToLower(list[i])] = true
	}
	return list
}

// sourceNames returns a name for each source, as names does. A source that is the file of a
// network has its name, and any other source another name than the networks.
func sourceNames(nets, sources []string) []string {
	all := names(slices.Concat(nets, sources))
	list := all[len(nets):]
	for i, s := range sources {
		for k, n := range nets {
			if a, _ := sameFile([]string{n, s}); a != "" {
				list[i] = all[k]
			}
		}
	}
	return list
}

// plain matches words that a shell takes as they are.
var plain = regexp.MustCompile(`^[\w./:=,+-]+$`)

// command returns the command that repeats a run, without the flags that change no result.
func command(fs *flag.FlagSet) string {
	words := []string{"go run ./examples/robust"}
	fs.Visit(func(f *flag.Flag) {
		values := []string{f.Value.String()}
		switch v := f.Value.(type) {
		case *list:
			values = *v
		case interface{ IsBoolFlag() bool }:
			values = nil
			if f.Name == "exhaustive" && f.Value.String() == "true" {
				words = append(words, "-exhaustive")
			}
		}
		if slices.Contains([]string{"out", "threads", "shard", "merge"}, f.Name) {
			values = nil
		}
		for _, v := range values {
			if !plain.MatchString(v) {
				v = "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
			}
			words = append(words, "-"+f.Name, v)
		}
	})
	return strings.Join(words, " ")
}
