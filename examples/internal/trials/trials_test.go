package trials_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
)

func TestTrials(t *testing.T) {
	for _, c := range []struct {
		trial trials.Trial
		name  string
		want  snn.Adversary
		work  float64 // of one image and two networks
	}{
		{trials.Clean, "clean", attack.GaussianNoise{}, 2},
		{trials.Noise(8), "noise  ε=8/255", attack.GaussianNoise{Std: 8. / 255}, 2},
		{trials.New("FGSM", snn.CBA{}, 8, 0.01, 7), "FGSM CBA ε=8/255", attack.FGSM(8./255, snn.CBA{}), 4.5},
		{trials.New("RFGSM", snn.BPTR{}, 4, 0.01, 7), "RFGSM BPTR ε=4/255", attack.RFGSM(4./255, snn.BPTR{}), 4.5},
		{trials.New("PGD", snn.BPTT{}, 8, 0.01, 7), "PGD BPTT ε=8/255", attack.PGD(8./255, 0.01, 7, snn.BPTT{}), 19.5},
		{trials.New("BIM", snn.BPTT{}, 2, 0.01, 3), "BIM BPTT ε=2/255", attack.BIM(2./255, 0.01, 3, snn.BPTT{}), 9.5},
	} {
		assert.Equal(t, c.name, c.trial.String())
		assert.Equal(t, c.want, c.trial.Adversary(), c.name)
		assert.Equal(t, c.work, c.trial.Work(2), c.name)
		assert.NoError(t, c.trial.Validate(), c.name)
		threat, _ := attack.ThreatOf(c.trial.Adversary())
		assert.Equal(t, threat.Norm != nil || c.trial == trials.Clean, c.trial.InWorstCase(), c.name)
	}
	battery := trials.Battery("quick", 8)
	assert.Equal(t, "quick battery ε=8/255", battery.String())
	assert.True(t, battery.InWorstCase())
	assert.Equal(t, 2*battery.Work(1), battery.Work(2))
	assert.Positive(t, battery.Work(1))
	assert.Equal(t, trials.New("FGSM", snn.CBA{}, 8, 0.01, 7), trials.New("FGSM", snn.CBA{}, 8, 0.02, 9), "steps are not FGSM's")
	assert.ErrorContains(t, trials.New("PGD", snn.BPTT{}, 8, 0, 7).Validate(), "PGD BPTT ε=8/255: ")
}

// The worst case counts clean images and attacks, not noise.
func TestWorstCase(t *testing.T) {
	outcomes := []trials.Outcome{
		{Trial: trials.Clean, Predicted: []int{1, 0, 0, 0}},
		{Trial: trials.Noise(8), Predicted: []int{0, 1, 0, 0}},
		{Trial: trials.New("FGSM", snn.CBA{}, 8, 0, 0), Predicted: []int{0, 0, 1, 0}},
	}
	assert.Equal(t, 0.5, trials.WorstCase([]int{0, 0, 0, 0}, outcomes))
}
