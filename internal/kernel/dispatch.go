package kernel

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// Level is an instruction set that the kernels can use.
type Level int32

// The levels in ascending order. Portable is portable Go. AVX2 needs AVX2, FMA, BMI1 and
// BMI2. AVX512 needs these and the F, BW, DQ and VL sets of AVX-512.
const (
	Portable Level = iota
	AVX2
	AVX512
)

var levelNames = [...]string{"portable", "avx2", "avx512"}

// String returns the level's name: portable, avx2 or avx512.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("Level(%d)", int32(l))
	}
	return levelNames[l]
}

// level is the level in use. maxLevel is the highest one that this build and processor have.
var level atomic.Int32

// EnvLevel is the environment variable that chooses the level when the program starts:
// portable, avx2 or avx512. If the processor lacks that level, the highest one that it has
// is used. Any other text is ignored, and [CheckEnv] returns an error for it. [CurrentLevel]
// returns the level in use.
const EnvLevel = "SNNRAT_KERNEL"

func init() { level.Store(int32(startLevel(os.Getenv(EnvLevel)))) }

func startLevel(env string) Level {
	if l := levelOf(env); l >= 0 {
		return min(l, maxLevel)
	}
	return maxLevel
}

// levelOf returns the level of a name, or less than [Portable].
func levelOf(name string) Level {
	return Level(slices.IndexFunc(levelNames[:], func(n string) bool { return strings.EqualFold(n, name) }))
}

// CheckEnv returns an error if [EnvLevel] is set to a text that names no level.
func CheckEnv() error {
	if env := os.Getenv(EnvLevel); env != "" && levelOf(env) < 0 {
		return fmt.Errorf("%s is %q: expected one of %s", EnvLevel, env, strings.Join(levelNames[:], ", "))
	}
	return nil
}

// CurrentLevel returns the level in use.
func CurrentLevel() Level { return Level(level.Load()) }

// MaxLevel returns the highest level that this build and processor have.
func MaxLevel() Level { return maxLevel }

// SetLevel makes the kernels use l from the next call on. If this build or processor lacks
// l, it returns an error and changes nothing.
func SetLevel(l Level) error {
	if l < Portable || l > maxLevel {
		return fmt.Errorf("kernel: level %v: this build and processor have %v to %v", l, Portable, maxLevel)
	}
	level.Store(int32(l))
	return nil
}

// vectors returns how the level splits a block of 16 channels: the number of its
// vectors, and their bytes.
func (l Level) vectors() (n, bytes int) {
	if l == AVX2 {
		return 2, 32
	}
	return 1, 64
}
