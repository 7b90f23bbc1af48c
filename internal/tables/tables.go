// Package tables writes tables as text, Markdown and CSV.
package tables

import (
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table is rows of cells. Rows may have different lengths.
type Table [][]string

// Add appends a row.
func (t *Table) Add(cells ...string) { *t = append(*t, cells) }

// String returns the table in lines: the first column flush left, the others flush right,
// two spaces between columns.
func (t Table) String() string { return t.Text(1) }

// Text returns the table in lines, two spaces between columns. The columns listed, counted
// from 1, are flush left and the others flush right.
func (t Table) Text(left ...int) string {
	w := writer()
	columns := 0
	for _, row := range t {
		w.AppendRow(cells(row))
		columns = max(columns, len(row))
	}
	align := make([]table.ColumnConfig, columns)
	for i := range align {
		align[i] = table.ColumnConfig{Number: i + 1, Align: text.AlignRight}
	}
	for _, column := range left {
		if column <= columns {
			align[column-1].Align = text.AlignLeft
		}
	}
	w.SetColumnConfigs(align)
	return t.lines(w.Render())
}

// Markdown returns the table in Markdown. The first row holds the headings.
func (t Table) Markdown() string { return t.lines(t.headed().RenderMarkdown()) }

// CSV returns the table as comma-separated values.
func (t Table) CSV() string { return t.lines(t.headed().RenderCSV()) }

// writer returns a writer without rows.
func writer() table.Writer {
	w := table.NewWriter()
	w.SetStyle(table.Style{
		Box:     table.BoxStyle{MiddleVertical: "  "},
		Options: table.Options{SeparateColumns: true},
	})
	w.SuppressTrailingSpaces()
	return w
}

// headed returns a writer of t whose first row is a header.
func (t Table) headed() table.Writer {
	w := writer()
	for i, row := range t {
		if i == 0 {
			w.AppendHeader(cells(row))
		} else {
			w.AppendRow(cells(row))
		}
	}
	return w
}

func cells(row []string) table.Row {
	r := make(table.Row, len(row))
	for i, cell := range row {
		r[i] = cell
	}
	return r
}

// lines ends the last line of a table's text.
func (t Table) lines(text string) string {
	if len(t) == 0 {
		return ""
	}
	return text + "\n"
}
