//go:build !linux && !darwin

package download_test

import "testing"

func limitFiles(t *testing.T, _ int) { t.Skip("no such limit here") }
