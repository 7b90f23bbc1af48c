// Package tables aligns the examples' tables.
package tables

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// Table is rows of cells. Rows may have different lengths.
type Table [][]string

// Add appends a row.
func (t *Table) Add(cells ...string) { *t = append(*t, cells) }

// String returns the table in lines: the first column flush left, the others flush right,
// two spaces between columns.
func (t Table) String() string {
	first, columns := 0, 0
	for _, row := range t {
		first, columns = max(first, utf8.RuneCountInString(row[0])), max(columns, len(row))
	}
	var b, trimmed strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range t {
		// A row without all cells would end the columns.
		rest := append(row[1:len(row):len(row)], make([]string, columns-len(row))...)
		fmt.Fprintf(w, "%-*s\t%s\t\n", first, row[0], strings.Join(rest, "\t"))
	}
	w.Flush()
	for line := range strings.Lines(b.String()) {
		line = strings.TrimPrefix(line, "  ") // before the first column
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}
