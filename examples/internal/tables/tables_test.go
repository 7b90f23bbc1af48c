package tables_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/examples/internal/tables"
)

func TestString(t *testing.T) {
	var table tables.Table
	assert.Empty(t, table.String())
	table.Add("", "white-box", "", "γ")
	table.Add("ε = 8/255", "1", "22.5 (9)")
	table.Add("x", "", "", "σσσ")
	table.Add("alone")
	assert.Equal(t, ""+
		"           white-box              γ\n"+
		"ε = 8/255          1  22.5 (9)\n"+
		"x                               σσσ\n"+
		"alone\n", table.String())
}
