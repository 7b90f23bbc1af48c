package proofs

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/lipschitz/certify"
)

// A certified image that is broken is an error that names it.
func TestWrongCertificate(t *testing.T) {
	radii := func(verdicts ...string) (list Radii) {
		for k, v := range verdicts {
			s := &Radius{Eps: float64(k + 1)}
			for _, c := range v {
				attacked := 0
				if c == 'b' || c == 'x' {
					attacked = 1
				}
				verdict := certify.Unknown
				if c == 'c' || c == 'x' {
					verdict = certify.Certified
				}
				s.Rows = append(s.Rows, Row{Verdict: verdict, Attacked: attacked})
			}
			s.count(make([]int, len(v)))
			list = append(list, s)
		}
		return list
	}
	r := radii("ccub", "cubb")
	require.NoError(t, r.Check())
	assert.Equal(t, []float64{0.5, 0.75, 1}, []float64{r[0].Certified, r[0].WorstCase, r[0].Clean})
	r = radii("ccub", "cxbb")
	assert.ErrorContains(t, r.Check(), "a certificate is wrong: at ε = 2/255 the battery broke images [1], which are certified: ")
	r = radii("ccub", "cubu", "uucc")
	assert.ErrorContains(t, r.Check(), "image 3 is certified at ε = 3/255 and broken at 1/255: ")
}
