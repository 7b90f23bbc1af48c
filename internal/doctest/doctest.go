// Package doctest checks that the code of documentation is code that tests compile and run.
package doctest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Page checks the Go code of a Markdown page. It fails t unless the page has blocks blocks
// of Go code and each of them is part of one of the source files. Indentation may differ.
func Page(t testing.TB, page string, blocks int, sources ...string) {
	t.Helper()
	found := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, page), -1)
	if len(found) != blocks {
		t.Errorf("%s: %d blocks of Go code: expected %d", page, len(found), blocks)
	}
	for _, block := range found {
		contains(t, page, block[1], sources)
	}
}

// Comment checks the first preformatted block of a Go file's comments, as Page does.
func Comment(t testing.TB, file string, sources ...string) {
	t.Helper()
	block := regexp.MustCompile(`(?m)(^//\t.*\n(//\n//\t.*\n)?)+`).FindString(read(t, file))
	if block == "" {
		t.Errorf("%s: no preformatted block: expected an example", file)
	}
	contains(t, file, regexp.MustCompile(`(?m)^//\t*`).ReplaceAllString(block, ""), sources)
}

func contains(t testing.TB, page, block string, sources []string) {
	t.Helper()
	for _, source := range sources {
		if strings.Contains(read(t, source), block) {
			return
		}
	}
	t.Errorf("%s: not the code of %s:\n%s", page, strings.Join(sources, " or "), block)
}

// read returns a file's text without indentation, with lines that end in \n.
func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(strings.ReplaceAll(string(text), "\r\n", "\n"), "")
}
