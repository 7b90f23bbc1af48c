package train

import (
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// sums adds up the gradients of the micro-shards by a binary tree. Each rank adds up its own
// micro-shards. The sums of the ranks are then added up in parts, one on each rank.
//
// A gradient is added as soon as its micro-shard has passed the last operation that uses the
// parameter. Once it is complete, it is sent, while the backward pass goes on.
type sums struct {
	t     *Trainer
	lanes []*lane
	lr    float64
	fused bool // update the weights, and collect them instead of the gradients

	params []paramSum
	order  []int // of the transfers under way
	failed error // of a transfer
}

// paramSum is the gradient of a parameter on its way.
type paramSum struct {
	param *autograd.Param
	cuts  []int       // of the parts that each rank adds up, [ranks + 1]
	open  [][]float32 // of each lane, or nil: what is not complete
	nodes [][]float32 // of the tree: the sums of nodes 2i and 2i+1 make that of node i, and the lanes come last
	ready []bool      // [nodes] whether the sum is complete; it is nil if there is no gradient
	free  [][]float32 // memory for gradients
	parts [][]float32 // [ranks] received from each, for the part of this rank

	transfer   Transfer
	collecting bool // the transfer is the second one
}

// begin prepares for the gradients of a pass.
func (g *sums) begin(t *Trainer, lanes []*lane, lr float64, fused bool) {
	n, rank := t.ranks.Size(), t.ranks.Rank()
	if g.params == nil {
		g.params = make([]paramSum, len(t.updater.params))
		for j, p := range t.updater.params {
			g.params[j].param, g.params[j].cuts = p, cuts(len(p.Data()), n)
			g.params[j].parts = make([][]float32, n)
		}
	}
	g.t, g.lanes, g.lr, g.fused, g.order, g.failed = t, lanes, lr, fused, g.order[:0], nil
	for j := range g.params {
		p := &g.params[j]
		own, _ := p.param.SwapGrad(nil, false)
		p.recycle(own)
		for _, v := range p.nodes {
			p.recycle(v)
		}
		p.open = make([][]float32, len(lanes))
		p.nodes, p.ready = make([][]float32, 2*len(lanes)), make([]bool, 2*len(lanes))
		p.transfer, p.collecting = nil, false
		for r := range p.parts {
			if r != rank && p.parts[r] == nil {
				p.parts[r] = make([]float32, p.cuts[rank+1]-p.cuts[rank])
			}
		}
	}
}

// cuts splits n values, which come in vectors of 16, into parts of about the same size.
func cuts(n, parts int) []int {
	c := make([]int, parts+1)
	for r := range c {
		c[r] = n / tensor.Lanes * r / parts * tensor.Lanes
	}
	return c
}

func (p *paramSum) recycle(v []float32) {
	if v != nil {
		p.free = append(p.free, v)
	}
}

// enter puts the gradients of a lane into the parameters.
func (g *sums) enter(i int) {
	for j := range g.params {
		p := &g.params[j]
		if v := p.open[i]; v != nil {
			p.param.SwapGrad(v, true)
			p.open[i] = nil
		} else if k := len(p.free); k > 0 {
			p.param.SwapGrad(p.free[k-1], false)
			p.free = p.free[:k-1]
		}
	}
}

// leave takes the gradients of a lane out of the parameters, and adds those that are complete.
// All are if the lane has ended.
func (g *sums) leave(i int, ended bool) (err error) {
	for j := range g.params {
		p := &g.params[j]
		leaf := len(g.lanes) + i
		v, has := p.param.SwapGrad(nil, false)
		if !has {
			p.recycle(v)
			v = nil
		}
		switch {
		case p.ready[leaf]:
			if has {
				err = fmt.Errorf("the gradient of %s changed after the last operation that uses it: an operation on it lacks the method UsesParam", p.param.Name)
			}
		case ended, has && !g.lanes[i].uses(p.param):
			if e := g.add(p, leaf, v); err == nil {
				err = e
			}
			if p.ready[1] && p.nodes[1] != nil {
				g.send(j)
			}
		case has:
			p.open[i] = v
		}
	}
	g.poll()
	return err
}

// add adds the gradient of a leaf to the tree, up to where a sum waits for its other half.
func (g *sums) add(p *paramSum, node int, v []float32) (err error) {
	p.nodes[node], p.ready[node] = v, true
	for ; node > 1 && p.ready[node^1]; node /= 2 {
		a, b := p.nodes[node&^1], p.nodes[node|1]
		p.nodes[node&^1], p.nodes[node|1] = nil, nil
		switch {
		case a != nil && b != nil:
			kernel.AXPY(a, 1, b, true, g.t.model.Threads)
			p.recycle(b)
		case a != nil || b != nil:
			err = fmt.Errorf("some micro-shards have a gradient of %s and others have none, want one in all or none", p.param.Name)
		}
		p.nodes[node/2], p.ready[node/2] = a, true
	}
	return err
}

// send begins the exchange of a gradient whose sum on this rank is complete.
func (g *sums) send(j int) {
	p := &g.params[j]
	p.transfer = g.t.ranks.Scatter(j, p.nodes[1], p.cuts, p.parts)
	g.order = append(g.order, j)
}

// poll goes on with the transfers that are done, in the order of their begin.
func (g *sums) poll() {
	for _, j := range g.order {
		p := &g.params[j]
		if p.collecting {
			continue
		}
		if !p.transfer.Done() {
			return
		}
		g.reduce(j)
	}
}

// reduce adds up this rank's part of a gradient, and begins to collect the result.
func (g *sums) reduce(j int) {
	p := &g.params[j]
	p.collecting = true
	if err := p.transfer.Wait(); err != nil {
		g.failed = errors.Join(g.failed, err)
		return
	}
	rank := g.t.ranks.Rank()
	own := p.nodes[1][p.cuts[rank]:p.cuts[rank+1]]
	p.parts[rank] = own
	tree(p.parts, func(a, b []float32) { kernel.AXPY(a, 1, b, true, g.t.model.Threads) })
	if rank > 0 {
		copy(own, p.parts[0])
	}
	p.parts[rank] = nil
	if !g.fused {
		p.transfer = g.t.ranks.Collect(j, p.nodes[1], p.cuts)
		return
	}
	g.t.updater.updatePart(j, p.cuts[rank], own, g.lr, g.t.model.Threads)
	p.transfer = g.t.ranks.Collect(j, p.param.MutableData(), p.cuts)
}

// finish waits for all transfers. The gradients are then in the parameters, unless the
// weights are updated. It returns an error on all ranks if failure is not nil on one, or if a
// transfer failed.
//
// After a failure, too, all ranks call finish, and each takes part in what another has begun. A
// transfer that stays open would be received as the next one of its parameter.
func (g *sums) finish(failure error) error {
	has := make([]byte, len(g.params)|1) // unlike statistics, whose number of bytes is even
	for _, j := range g.order {
		has[j] = 1
	}
	note := func(err error) {
		if failure == nil {
			failure = err
		}
	}
	all, err := g.t.share(has, nil)
	if err == nil {
		note(sameOnAll(all, "the parameters with a gradient"))
	}
	if err != nil || slices.ContainsFunc(all, func(m []byte) bool { return len(m) != len(has) }) {
		note(err)
		all, err = g.t.share(has, nil) // once those have failed whose passes were longer
	}
	if err != nil { // a rank is lost
		note(err)
		return failure
	}
	for j := range g.params {
		if p := &g.params[j]; has[j] == 0 && slices.ContainsFunc(all, func(m []byte) bool { return j < len(m) && m[j] == 1 }) {
			p.nodes[1] = make([]float32, len(p.param.Data()))
			g.send(j)
		}
	}
	for _, j := range g.order {
		if p := &g.params[j]; !p.collecting {
			g.reduce(j)
		}
	}
	for _, j := range g.order {
		p := &g.params[j]
		if err := p.transfer.Wait(); err != nil {
			g.failed = errors.Join(g.failed, err)
		}
	}
	note(g.failed)
	if err := g.t.agree(failure); err != nil {
		return err
	}
	if !g.fused {
		for j := range g.params {
			if p := &g.params[j]; p.nodes[1] != nil {
				p.param.SwapGrad(p.nodes[1], true)
				p.nodes[1] = nil
			}
		}
	}
	return nil
}

// end lets go of the passes.
func (g *sums) end() { g.lanes = nil }
