package autograd

import (
	"fmt"
	"math"
)

// CrossEntropy computes the softmax cross-entropy of every row z of logits against its
// label:
//
//	loss = −Σ_k q_k · log softmax(z)_k,  q = (1 − smoothing)·onehot(label) + smoothing/classes
//
// logits is row-major [N, classes], where N is the number of labels. Labels are in
// [0, classes); smoothing is in [0,1). CrossEntropy writes the loss of each image to loss
// [N] and its gradient, softmax(z) − q, to grad [N, classes]. loss and grad may be nil.
// CrossEntropy panics if the lengths do not fit or a label is out of range.
func CrossEntropy(loss []float64, grad, logits []float32, labels []int, smoothing float64) {
	n := len(labels)
	if n == 0 || len(logits)%n != 0 {
		panic(fmt.Sprintf("autograd: CrossEntropy: %d logits for %d labels", len(logits), n))
	}
	classes := len(logits) / n
	rest := smoothing / float64(classes)
	for i, label := range labels {
		if label < 0 || label >= classes {
			panic(fmt.Sprintf("autograd: CrossEntropy: label %d of %d classes", label, classes))
		}
		z := logits[i*classes:][:classes]
		top := float64(z[0])
		for _, v := range z {
			top = max(top, float64(v))
		}
		var sum, mean float64
		for _, v := range z {
			sum += math.Exp(float64(v) - top)
			mean += float64(v)
		}
		log := top + math.Log(sum)
		if loss != nil {
			loss[i] = log - float64((1-smoothing)*float64(z[label])) - float64(rest*mean)
		}
		if grad != nil {
			for k, v := range z {
				q := rest
				if k == label {
					q += 1 - smoothing
				}
				grad[i*classes+k] = float32(math.Exp(float64(v)-log) - q)
			}
		}
	}
}
