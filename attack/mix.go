package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Mix chooses one of several attacks in every call of Perturb, with equal chances. The
// choice is drawn from key.Derive("mix", 0), so that calls with the same key choose the same
// attack. Adversarial training gives every mini-batch its own key. An evaluation uses one
// key, and hence one attack of the Mix, for all images.
type Mix []snn.Adversary

// RATMix returns the mix of regularized adversarial training (Ding et al. 2022): FGSM and
// RFGSM, each with BPTT and with BPTR. The paper trains with ε = 2/255.
func RATMix(eps float32) Mix {
	return Mix{
		FGSM(eps, snn.BPTT{}), RFGSM(eps, snn.BPTT{}),
		FGSM(eps, snn.BPTR{}), RFGSM(eps, snn.BPTR{}),
	}
}

// Perturb implements [snn.Adversary]. A Mix without attacks is an error.
func (m Mix) Perturb(ctx context.Context, model *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	adv, _, err := m.PerturbDetail(ctx, model, x, y, ids, key)
	return adv, err
}

// PerturbDetail implements [Detailer]: it returns the chosen attack's Detail.
func (m Mix) PerturbDetail(ctx context.Context, model *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, Detail, error) {
	if len(m) == 0 {
		return tensor.NCHW{}, Detail{}, errors.New("attack: a mix of no attacks: expected at least one")
	}
	if i := slices.Index(m, nil); i >= 0 {
		return tensor.NCHW{}, Detail{}, fmt.Errorf("attack: attack %d of a mix is nil", i)
	}
	chosen := m[key.Derive("mix", 0).Rand().IntN(len(m))]
	return PerturbDetail(ctx, chosen, model, x, y, ids, key)
}
