package snnrat_test

import (
	"testing"

	"github.com/org/snnrat/internal/doctest"
)

// The Go code of docs/pytorch.md is part of examples, which the tests run.
func TestDocsPyTorch(t *testing.T) {
	doctest.Page(t, "docs/pytorch.md", 3, "snn/peers_example_test.go", "snn/zoo/example_test.go")
}

// The example of package snn is one that the tests run.
func TestDocsSNN(t *testing.T) {
	doctest.Comment(t, "snn/doc.go", "snn/example_test.go")
}
