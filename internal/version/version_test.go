package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The module is found as the program's own and among what another depends on.
func TestDescribe(t *testing.T) {
	own := func(version string) debug.Module { return debug.Module{Path: module, Version: version} }
	other := debug.Module{Path: "example.com/other", Version: "v9.9.9"}
	local := own("v0.0.0")
	local.Replace = &debug.Module{Path: "../snnrat"}
	dep := own("v1.2.3")
	for _, c := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{}, Number},
		{debug.BuildInfo{Main: own("(devel)")}, Number},
		{debug.BuildInfo{Main: own("v1.2.3")}, Number + " (v1.2.3)"},
		{debug.BuildInfo{Main: other}, Number},
		{debug.BuildInfo{Main: other, Deps: []*debug.Module{&other, &dep}}, Number + " (v1.2.3)"},
		{debug.BuildInfo{Main: other, Deps: []*debug.Module{&local}}, Number},
	} {
		assert.Equal(t, c.want, describe(&c.info))
	}
	assert.Contains(t, String(), Number)
}
