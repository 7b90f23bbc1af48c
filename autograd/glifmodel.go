package autograd

import "github.com/org/snnrat/internal/kernel"

// glifModel computes GLIF neurons in plain Go. Its states are m and those that are in use of i,
// s and a. Its parameters are the coefficients below.
type glifModel struct {
	synaptic, adaptive bool // whether i, and a, are in use
	recurrent          bool // whether s is
	soft, detach       bool

	states                        int
	zCurrent, zSpike, zAdaptation int // the places of i, s and a among the states
}

// Coefficients of glifModel.
const (
	kDecay           = iota // λ
	kGain                   // κ
	kThreshold              // θ
	kSynapticDecay          // α
	kRecurrence             // v
	kStrength               // b
	kAdaptationDecay        // ρ
	kReset
	kStart
)

const zMembrane = 0

func (m *glifModel) NumStates() int { return m.states }

// Start writes the membrane potentials before the first step.
func (m *glifModel) Start(z [][]float32) { copy(z[zMembrane], z[m.states+kStart]) }

func (m *glifModel) Integrate(z [][]float32, x, u []float32) {
	k := z[m.states:]
	if m.synaptic {
		i, alpha := z[m.zCurrent], k[kSynapticDecay]
		if m.recurrent {
			s, v := z[m.zSpike], k[kRecurrence]
			for j, x := range x {
				i[j] = float32(alpha[j]*i[j]) + float32(v[j]*s[j]) + x
			}
		} else {
			for j, x := range x {
				i[j] = float32(alpha[j]*i[j]) + x
			}
		}
		x = i
	}
	p, lambda, kappa, theta := z[zMembrane], k[kDecay], k[kGain], k[kThreshold]
	for j, x := range x {
		p[j] = float32(lambda[j]*p[j]) + float32(kappa[j]*x)
		u[j] = p[j] - theta[j]
	}
	if m.adaptive {
		a, b := z[m.zAdaptation], k[kStrength]
		for j := range u {
			u[j] = p[j] - (theta[j] + float32(b[j]*a[j]))
		}
	}
}

func (m *glifModel) Reset(z [][]float32, s []float32) {
	k := z[m.states:]
	p := z[zMembrane]
	switch {
	case !m.soft:
		reset := k[kReset]
		for j, s := range s {
			if s != 0 {
				p[j] = reset[j]
			}
		}
	case m.adaptive:
		theta, a, b := k[kThreshold], z[m.zAdaptation], k[kStrength]
		for j, s := range s {
			p[j] -= float32(s * (theta[j] + float32(b[j]*a[j])))
		}
	default:
		for j, theta := range k[kThreshold] {
			p[j] -= float32(s[j] * theta)
		}
	}
	if m.adaptive {
		a, rho := z[m.zAdaptation], k[kAdaptationDecay]
		for j, s := range s {
			a[j] = float32(rho[j]*a[j]) + float32((1-rho[j])*s)
		}
	}
	if m.recurrent {
		copy(z[m.zSpike], s)
	}
}

func (m *glifModel) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	k, dk := z[m.states:], dz[m.states:]
	if m.recurrent {
		for j, d := range dz[m.zSpike] {
			ds[j] += d
		}
	}
	if m.adaptive {
		a, da, rho, dRho := z[m.zAdaptation], dz[m.zAdaptation], k[kAdaptationDecay], dk[kAdaptationDecay]
		for j, s := range s {
			ds[j] += (1 - rho[j]) * da[j]
			dRho[j] += da[j] * (a[j] - s)
			da[j] *= rho[j]
		}
	}
	p, dp := z[zMembrane], dz[zMembrane]
	if !m.soft {
		reset, dReset := k[kReset], dk[kReset]
		for j, s := range s {
			if !m.detach {
				ds[j] += dp[j] * (reset[j] - p[j])
			}
			dReset[j] += dp[j] * s
			dp[j] *= 1 - s
		}
		return
	}
	theta, dTheta := k[kThreshold], dk[kThreshold]
	for j, s := range s {
		dTheta[j] -= dp[j] * s
		if !m.detach {
			ds[j] -= dp[j] * theta[j]
		}
	}
	if m.adaptive {
		a, da, b, db := z[m.zAdaptation], dz[m.zAdaptation], k[kStrength], dk[kStrength]
		for j, s := range s {
			if !m.detach {
				ds[j] -= dp[j] * (b[j] * a[j])
			}
			d := dp[j] * s
			db[j] -= d * a[j]
			da[j] -= d * b[j]
		}
	}
}

func (m *glifModel) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	k, dk := z[m.states:], dz[m.states:]
	if m.adaptive {
		a, da, b, db := z[m.zAdaptation], dz[m.zAdaptation], k[kStrength], dk[kStrength]
		for j, d := range du {
			db[j] -= d * a[j]
			da[j] -= d * b[j]
		}
	}
	p, dp, lambda, dLambda := z[zMembrane], dz[zMembrane], k[kDecay], dk[kDecay]
	kappa, dKappa, dTheta := k[kGain], dk[kGain], dk[kThreshold]
	for j, d := range du {
		dTheta[j] -= d
		d += dp[j]
		dLambda[j] += d * p[j]
		dKappa[j] += d * x[j]
		du[j], dp[j], dx[j] = d, d*lambda[j], d*kappa[j]
	}
	if !m.synaptic {
		return
	}
	i, di, alpha, dAlpha := z[m.zCurrent], dz[m.zCurrent], k[kSynapticDecay], dk[kSynapticDecay]
	for j := range dx {
		d := dx[j] + di[j]
		dKappa[j] += du[j] * alpha[j] * i[j]
		dAlpha[j] += d * i[j]
		dx[j], di[j] = d, d*alpha[j]
	}
	if m.recurrent {
		s, ds, v, dv := z[m.zSpike], dz[m.zSpike], k[kRecurrence], dk[kRecurrence]
		for j, d := range dx {
			dKappa[j] += du[j] * v[j] * s[j]
			dv[j] += d * s[j]
			ds[j] = d * v[j]
		}
	}
}

// newGLIFModel returns the model of neurons of c channels, and its coefficients. It sets p to
// the padded ones of n.
func newGLIFModel(p *kernel.GLIF, op string, n GLIF, c int, detach bool) (*glifModel, coefficients) {
	n.pad(p, op, c, make([]float32, glifCoefficients*roundUp(c)))
	k := coefficients{values: [][]float32{
		p.Decay, p.Gain, p.Threshold, p.SynapticDecay, p.Recurrence, p.Adaptation, p.AdaptationDecay, p.Reset, p.Start,
	}}
	for i, v := range k.values {
		if v != nil {
			continue
		}
		k.values[i] = make([]float32, roundUp(c))
		for j := range c {
			if i == kGain {
				k.values[i][j] = 1
			}
		}
	}
	if len(n.Params) > 0 {
		k.grad = func(sums [][]float64) {
			n.chain(&kernel.GLIFSums{
				Decay: sums[kDecay], Gain: sums[kGain], Threshold: sums[kThreshold], SynapticDecay: sums[kSynapticDecay],
				Recurrence: sums[kRecurrence], Adaptation: sums[kStrength], AdaptationDecay: sums[kAdaptationDecay], Reset: sums[kReset],
			}, c)
		}
	}
	m := &glifModel{
		synaptic: n.SynapticDecay != nil || n.Recurrence != nil, recurrent: n.Recurrence != nil, adaptive: n.Adaptation != nil,
		soft: n.SoftReset, detach: detach, states: 1,
	}
	for _, z := range []struct {
		used  bool
		place *int
	}{{m.synaptic, &m.zCurrent}, {m.recurrent, &m.zSpike}, {m.adaptive, &m.zAdaptation}} {
		if z.used {
			*z.place = m.states
			m.states++
		}
	}
	return m, k
}
