// Package idle lets memory that waits for its owner's next use serve other work meanwhile. A
// tape's memory is idle between passes; a projection of weights runs between passes.
package idle

import (
	"slices"
	"sync"
	"weak"
)

// Memory is what an owner offers to others while it is idle. Borrowers overwrite it.
type Memory struct {
	data []float32 // nil if it is not offered
	lent bool
}

var (
	mu sync.Mutex
	// all has the memory of all owners. It does not keep them: the garbage collector frees what
	// an owner no longer has.
	all []weak.Pointer[Memory]
)

// New returns memory of a new owner, which offers nothing yet.
func New() *Memory {
	m := new(Memory)
	mu.Lock()
	defer mu.Unlock()
	all = slices.DeleteFunc(all, func(p weak.Pointer[Memory]) bool { return p.Value() == nil })
	all = append(all, weak.Make(m))
	return m
}

// Offer offers data to others until Take. m offers nothing and is not on loan.
func (m *Memory) Offer(data []float32) {
	mu.Lock()
	defer mu.Unlock()
	m.data = data
}

// Take ends the offer. It reports whether the memory is the owner's again. If it is on loan, it
// belongs to the borrower, and the owner drops m.
func (m *Memory) Take() bool {
	mu.Lock()
	defer mu.Unlock()
	if m.lent {
		return false
	}
	m.data = nil
	return true
}

// Borrow returns the smallest memory on offer with at least n elements, or nil if there is none.
// Return ends the loan.
func Borrow(n int) *Memory {
	mu.Lock()
	defer mu.Unlock()
	var least *Memory
	for _, p := range all {
		if m := p.Value(); m != nil && !m.lent && len(m.data) >= n && (least == nil || len(m.data) < len(least.data)) {
			least = m
		}
	}
	if least != nil {
		least.lent = true
	}
	return least
}

// Data returns the memory, for its borrower.
func (m *Memory) Data() []float32 { return m.data }

// Return ends a loan.
func (m *Memory) Return() {
	mu.Lock()
	defer mu.Unlock()
	m.lent = false
}
