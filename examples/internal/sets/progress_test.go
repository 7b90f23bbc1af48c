package sets

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A download shows its progress, unless its length is unknown.
func TestProgress(t *testing.T) {
	var out strings.Builder
	p := &progress{stderr: &out, name: "download of set.tar.gz"}
	p.show(10, -1)
	p.clear()
	assert.Empty(t, out.String())
	for done := range int64(4) {
		p.show(100*done, 300)
	}
	p.clear()
	assert.Contains(t, out.String(), "download of set.tar.gz (100 % of all; ")
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), "no part of it is a line before a minute")
}
