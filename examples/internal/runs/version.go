package runs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
)

const module = "github.com/org/snnrat"

// Version identifies the version of this library: that of the module, such as v1.2.0,
// or, if the program was built from a working copy without a version, a digest of the
// program.
var Version = sync.OnceValues(func() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == module && m.Replace == nil && released(m.Version) {
				return m.Version, nil
			}
		}
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("version of the program: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("version of the program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if n, err := io.Copy(h, f); err != nil || n == 0 {
		return "", fmt.Errorf("version of the program: %s: %w", path, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return "build " + hex.EncodeToString(h.Sum(nil)[:12]), nil
})

// released reports whether a version says which source the program was built from.
func released(version string) bool {
	return version != "" && version != "(devel)" && !strings.Contains(version, "+dirty")
}
