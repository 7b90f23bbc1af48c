//go:build !linux

package parallel

import "time"

// clock returns the time since the program began.
func clock() time.Duration { return time.Since(began) }
