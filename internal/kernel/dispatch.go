package kernel

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
)

// Level is an instruction set that the kernels can use.
type Level int32

// The levels. Those of one architecture ascend. Portable is portable Go. On amd64, AVX2 needs
// AVX2, FMA, BMI1 and BMI2, and AVX512 needs these and the F, BW, DQ and VL sets of AVX-512.
// Every arm64 processor has NEON.
const (
	Portable Level = iota
	AVX2
	AVX512
	NEON
)

var levelNames = [...]string{"portable", "avx2", "avx512", "neon"}

// String returns the level's name: portable, avx2, avx512 or neon.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("Level(%d)", int32(l))
	}
	return levelNames[l]
}

// level is the level in use. buildLevels are the levels of this build, in ascending order.
// maxLevel is the highest one of them that the processor has.
var level atomic.Int32

// EnvLevel is the environment variable that chooses the level when the program starts:
// portable; avx2 or avx512 in a build for amd64; neon in a build for arm64. If the processor
// lacks that level, the highest one that it has is used. Any other text is ignored, and
// [CheckEnv] returns an error for it. [CurrentLevel] returns the level in use.
const EnvLevel = "SNNRAT_KERNEL"

func init() { level.Store(int32(startLevel(os.Getenv(EnvLevel)))) }

func startLevel(env string) Level {
	if l, ok := levelOf(env); ok {
		return min(l, maxLevel)
	}
	return maxLevel
}

// levelOf returns the level of this build that has a name.
func levelOf(name string) (Level, bool) {
	for _, l := range buildLevels {
		if strings.EqualFold(l.String(), name) {
			return l, true
		}
	}
	return 0, false
}

// CheckEnv returns an error if [EnvLevel] is set to a text that names no level of this build.
func CheckEnv() error {
	env := os.Getenv(EnvLevel)
	if _, ok := levelOf(env); ok || env == "" {
		return nil
	}
	return fmt.Errorf("%s is %q: expected one of %s in this build for %s", EnvLevel, env, names(buildLevels), runtime.GOARCH)
}

func names(levels []Level) string {
	var s []string
	for _, l := range levels {
		s = append(s, l.String())
	}
	return strings.Join(s, ", ")
}

// CurrentLevel returns the level in use.
func CurrentLevel() Level { return Level(level.Load()) }

// MaxLevel returns the highest level that this build and processor have.
func MaxLevel() Level { return maxLevel }

// Levels returns the levels that this build and processor have, in ascending order.
func Levels() []Level {
	return slices.DeleteFunc(slices.Clone(buildLevels), func(l Level) bool { return l > maxLevel })
}

// SetLevel makes the kernels use l from the next call on. If this build or processor lacks
// l, it returns an error and changes nothing.
func SetLevel(l Level) error {
	if have := Levels(); !slices.Contains(have, l) {
		return fmt.Errorf("kernel: level %v: this build and processor have %s", l, names(have))
	}
	level.Store(int32(l))
	return nil
}

// vectors returns how the level splits a block of 16 channels: the number of its
// vectors, and their bytes. At NEON a vector is four registers.
func (l Level) vectors() (n, bytes int) {
	if l == AVX2 {
		return 2, 32
	}
	return 1, 64
}
