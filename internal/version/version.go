// Package version names the version of the library, for what is kept beside results.
package version

import "runtime/debug"

// module is the path of the library's module.
const module = "github.com/org/snnrat"

// Number is the version that the source is of. It changes with every release, and with
// every change that gives other results from the same seed.
const Number = "0.1.0"

// String returns Number and, in a program that is built with it, what the build knows
// beside: the module's version, such as "0.1.0 (v0.0.0-20261130120000-0123456789ab)".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Number
	}
	return describe(info)
}

// describe is String for a build.
func describe(info *debug.BuildInfo) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Replace != nil && m.Path == module {
			m = m.Replace
		} else if m.Path != module {
			continue
		}
		if m.Version != "" && m.Version != "(devel)" {
			return Number + " (" + m.Version + ")"
		}
	}
	return Number
}
