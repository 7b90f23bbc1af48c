package tables_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/internal/tables"
)

func TestString(t *testing.T) {
	var table tables.Table
	assert.Empty(t, table.String())
	assert.Equal(t, "\n", tables.Table{{"", ""}}.String())
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

func TestFormats(t *testing.T) {
	table := tables.Table{{"attack", "accuracy %", "settings"}, {"a|b", "9.5", "BPTT, 7 steps"}, {"犬", "10.25", `"x"`}}
	assert.Equal(t, ""+
		"attack  accuracy %  settings\n"+
		"a|b            9.5  BPTT, 7 steps\n"+
		"犬           10.25  \"x\"\n", table.Text(1, 3))
	assert.Equal(t, ""+
		"| attack | accuracy % | settings |\n"+
		"| --- | --- | --- |\n"+
		"| a\\|b | 9.5 | BPTT, 7 steps |\n"+
		"| 犬 | 10.25 | \"x\" |\n", table.Markdown())
	assert.Equal(t, ""+
		"attack,accuracy %,settings\n"+
		"a|b,9.5,\"BPTT, 7 steps\"\n"+
		"犬,10.25,\"\"\"x\"\"\"\n", table.CSV())
}
