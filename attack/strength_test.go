package attack_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train/dataset/fashion"
)

// TestStrength runs a preset on a network for Fashion-MNIST, at ε = 16/255, and prints what each
// attack leaves:
//
//	SNNRAT_STRENGTH=net.safetensors SNNRAT_PRESET=standard SNNRAT_IMAGES=1000 go test ./attack -run Strength -v -timeout 2h
func TestStrength(t *testing.T) {
	path := os.Getenv("SNNRAT_STRENGTH")
	if path == "" {
		t.Skip("SNNRAT_STRENGTH names no network")
	}
	n, err := strconv.Atoi(os.Getenv("SNNRAT_IMAGES"))
	require.NoError(t, err)
	m, _, err := zoo.Load(path)
	require.NoError(t, err)
	all, err := fashion.Test()
	require.NoError(t, err)
	data, err := all.First(n)
	require.NoError(t, err)
	b, err := attack.Preset(os.Getenv("SNNRAT_PRESET"), attack.Threat{Norm: attack.LInf{}, Eps: 16. / 255})
	require.NoError(t, err)
	begin := time.Now()
	r, err := b.Evaluate(ctx, m, data, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	fmt.Printf("%s on %d images of %s, ε = 16/255: %.1f %% clean, %.0f s, %d passes\n", b.Name, n, path, 100*r.Clean, time.Since(begin).Seconds(), r.Passes)
	for _, a := range r.Attacks {
		fmt.Printf("%-42s met %4d  broke %4d  left %5.1f %%  passes for each %6.0f\n", a.Name, a.Met, a.Broke, 100*a.Left, float64(a.Passes)/float64(max(1, a.Met)))
	}
}
