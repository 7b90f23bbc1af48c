package autograd

// SetCached sets the number of currents that neurons compute at a time until the call of
// restore.
func SetCached(n int) (restore func()) {
	was := cached
	cached = n
	return func() { cached = was }
}
