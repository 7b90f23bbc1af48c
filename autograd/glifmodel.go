package autograd

import "github.com/org/snnrat/internal/kernel"

// glifModel computes GLIF neurons in plain Go. Its states are m, i, s and a, and its parameters
// the coefficients below.
type glifModel struct {
	synaptic, recurrent, adaptive bool // whether i, s and a are in use
	soft, detach                  bool
}

// States and coefficients of glifModel.
const (
	zMembrane = iota
	zCurrent
	zSpike
	zAdaptation
	zDecay           // λ
	zGain            // κ
	zThreshold       // θ
	zSynapticDecay   // α
	zRecurrence      // v
	zStrength        // b
	zAdaptationDecay // ρ
	zReset
	zStart
	zEnd
)

func (m *glifModel) NumStates() int { return zDecay }

func (m *glifModel) Integrate(z [][]float32, x, u []float32) {
	if m.synaptic || m.recurrent {
		i, s, alpha, v := z[zCurrent], z[zSpike], z[zSynapticDecay], z[zRecurrence]
		for j, x := range x {
			i[j] = float32(alpha[j]*i[j]) + float32(v[j]*s[j]) + x
		}
		x = i
	}
	p, lambda, kappa, theta := z[zMembrane], z[zDecay], z[zGain], z[zThreshold]
	for j, x := range x {
		p[j] = float32(lambda[j]*p[j]) + float32(kappa[j]*x)
		u[j] = p[j] - theta[j]
	}
	if m.adaptive {
		a, b := z[zAdaptation], z[zStrength]
		for j := range u {
			u[j] = p[j] - (theta[j] + float32(b[j]*a[j]))
		}
	}
}

func (m *glifModel) Reset(z [][]float32, s []float32) {
	p, theta, a, b, rho, reset := z[zMembrane], z[zThreshold], z[zAdaptation], z[zStrength], z[zAdaptationDecay], z[zReset]
	for j, s := range s {
		switch {
		case s == 0:
		case m.soft:
			p[j] -= theta[j] + float32(b[j]*a[j])
		default:
			p[j] = reset[j]
		}
	}
	if m.adaptive {
		for j, s := range s {
			a[j] = float32(rho[j]*a[j]) + float32((1-rho[j])*s)
		}
	}
	if m.recurrent {
		copy(z[zSpike], s)
	}
}

func (m *glifModel) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	if m.recurrent {
		for j, d := range dz[zSpike] {
			ds[j] += d
		}
		clear(dz[zSpike])
	}
	a, da, b := z[zAdaptation], dz[zAdaptation], z[zStrength]
	if m.adaptive {
		rho, dRho := z[zAdaptationDecay], dz[zAdaptationDecay]
		for j, s := range s {
			ds[j] += (1 - rho[j]) * da[j]
			dRho[j] += da[j] * (a[j] - s)
			da[j] *= rho[j]
		}
	}
	p, dp, theta, dTheta, db := z[zMembrane], dz[zMembrane], z[zThreshold], dz[zThreshold], dz[zStrength]
	reset, dReset := z[zReset], dz[zReset]
	for j, s := range s {
		switch {
		case !m.soft:
			if !m.detach {
				ds[j] += dp[j] * (reset[j] - p[j])
			}
			dReset[j] += dp[j] * s
			dp[j] *= 1 - s
		default:
			if !m.detach {
				ds[j] -= dp[j] * (theta[j] + b[j]*a[j])
			}
			d := dp[j] * s
			dTheta[j] -= d
			db[j] -= d * a[j]
			da[j] -= d * b[j]
		}
	}
}

func (m *glifModel) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	if m.adaptive {
		a, da, b, db := z[zAdaptation], dz[zAdaptation], z[zStrength], dz[zStrength]
		for j, d := range du {
			db[j] -= d * a[j]
			da[j] -= d * b[j]
		}
	}
	p, dp, lambda, dLambda := z[zMembrane], dz[zMembrane], z[zDecay], dz[zDecay]
	kappa, dKappa, dTheta := z[zGain], dz[zGain], dz[zThreshold]
	i, s, alpha, v := z[zCurrent], z[zSpike], z[zSynapticDecay], z[zRecurrence]
	for j, d := range du {
		dTheta[j] -= d
		d += dp[j]
		dLambda[j] += d * p[j]
		dKappa[j] += d * (alpha[j]*i[j] + v[j]*s[j] + x[j])
		dp[j] = d * lambda[j]
		dx[j] = d * kappa[j]
	}
	if m.synaptic || m.recurrent {
		di, ds, dAlpha, dv := dz[zCurrent], dz[zSpike], dz[zSynapticDecay], dz[zRecurrence]
		for j := range dx {
			d := dx[j] + di[j]
			dAlpha[j] += d * i[j]
			dv[j] += d * s[j]
			dx[j], di[j], ds[j] = d, d*alpha[j], d*v[j]
		}
	}
}

// Start writes the membrane potentials before the first step.
func (m *glifModel) Start(z [][]float32) { copy(z[zMembrane], z[zStart]) }

// newGLIFModel returns the model of neurons of c channels, and its coefficients.
func newGLIFModel(op string, n GLIF, c int, detach bool) (*glifModel, coefficients) {
	var p kernel.GLIF
	n.pad(&p, op, c, make([]float32, glifCoefficients*roundUp(c)))
	k := coefficients{values: [][]float32{
		p.Decay, p.Gain, p.Threshold, p.SynapticDecay, p.Recurrence, p.Adaptation, p.AdaptationDecay, p.Reset, p.Start,
	}}
	for i, v := range k.values {
		if v != nil {
			continue
		}
		k.values[i] = make([]float32, roundUp(c))
		for j := range c {
			if i == zGain-zDecay {
				k.values[i][j] = 1
			}
		}
	}
	if len(n.Params) > 0 {
		k.grad = func(sums [][]float64) {
			of := func(z int) []float64 { return sums[z-zDecay] }
			n.chain(&kernel.GLIFSums{
				Decay: of(zDecay), Gain: of(zGain), Threshold: of(zThreshold), SynapticDecay: of(zSynapticDecay),
				Recurrence: of(zRecurrence), Adaptation: of(zStrength), AdaptationDecay: of(zAdaptationDecay), Reset: of(zReset),
			}, c)
		}
	}
	return &glifModel{
		synaptic: n.SynapticDecay != nil, recurrent: n.Recurrence != nil, adaptive: n.Adaptation != nil,
		soft: n.SoftReset, detach: detach,
	}, k
}
