// Package smooth makes smoothed networks of spiking networks, and certifies their classes: within
// a distance of an image that is given with it, no change can alter the class.
//
//	method := smooth.DefaultGaussian(0.25) // σ of the noise, for pixels in [0,1]
//	list, err := method.Certify(ctx, model, images, nil, rng.New(1))
//	// list[0].Class, and list[0].Radius, an L2 distance
//
//	report, err := smooth.Evaluate(ctx, model, testSet, method, smooth.Config{Key: rng.New(1)})
//	fmt.Print(report, report.Table(0, 0.25, 0.5, 1))
//
// A smoothed network is another network than the one it is made of, the base network. It has other
// classes and another accuracy, and it runs the base network many times for one image. The base
// network may be any snn.Model: nothing is assumed of its layers, neurons or encoder. It needs to be
// trained for the images that it sees here, with noise or ablated.
//
//	method      certified change                        holds                 passes for an image
//	Gaussian    L2 distance                             with probability 1−α  Samples0 + Samples
//	Windows     spikes added, removed, changed, moved   surely                number of windows
//
// # Gaussian noise
//
// Let f(z, ω) be the class that the base network computes for an image z. ω stands for its own random
// numbers, such as those of Poisson coding; they are drawn anew for every sample. Let q(z) be the
// nearest image of z in [0,1] whose values are on the grid k/Levels: bytes, or spikes. The smoothed
// network is
//
//	h(x) = argmax_c P(f(q(x + ε), ω) = c),  ε from N(0, σ²·I)
//
// Theorem (Cohen et al. 2019, and for random f Salman et al. 2019). If
// P(f(q(x + ε), ω) = c) ≥ p > ½, then h(x') = c for all x' with ‖x' − x‖₂ < σ·Φ⁻¹(p).
//
// The theorem allows any f, and so f after q. It bounds h for every real x', in [0,1] or not.
// Certify bounds p by sampling, with the exact bound of Clopper and Pearson, whose probability of
// being too large is at most α for each image.
//
// The theorem speaks of real numbers. Sampling with float32 is unsound: the rounded sum x + ε tells
// more about x than the real one, and networks exist that make use of it (Jin et al.: Getting
// a-round guarantees, 2022; Voráček, Hein: Sound randomized smoothing in floating-point arithmetics,
// ICLR 2023). Here no such sum is computed. x is on the grid, so q(x + ε) = clip(x + N/Levels) with
// the integers N = round(Levels·ε), and Certify draws N from its distribution and adds integers. The
// base network sees an exact sample, but for the rounding of the probabilities of N. p is reduced
// by what that can change, which is at most 2⁻⁵⁰·pixels·(Levels + 1). The radius is rounded down.
// What remains is trust in the generator of the random numbers, ChaCha8.
//
// Images that are not on the grid are refused. Round such images to a grid first; distances then count
// from the rounded image. Values within 2⁻²² of the grid are taken, such as a float32 of k/255. The
// radius is then less by the distance of the image from the grid.
//
// # Windows
//
// [Windows] runs the base network once for each window of an example, with zeros for all values
// outside it. Let n_c(x) be the number of windows whose class is c. The smoothed network is h(x) =
// argmax n_c(x), the lowest c if several are largest.
//
// Theorem. Let c = h(x). For another class c', let a window gain 2 if its class is c, 0 if its class
// is c', and 1 otherwise. Let D_c'(k) be the largest sum of gains of windows that k edits can touch.
// If for every c' the difference n_c(x) − n_c'(x) − D_c'(k) is positive, or zero and c < c', then
// h(x') = c for every x' that k edits make of x.
//
// Proof. A window sees no other values of x' than of x unless an edit has touched it: the edit has
// changed a value at a coordinate in the window. The base network repeats to the bit, so the class of
// an untouched window is the same. A touched window changes n_c − n_c' by at most its gain, whatever
// its class becomes. The touched windows are among those of k edits, so n_c − n_c' falls by no more
// than D_c'(k). ∎
//
// One edit changes values at one coordinate, or at two coordinates at most MaxShift apart. D is the
// exact maximum over all such choices if no window is shorter than MaxShift, and an upper bound
// otherwise. The certificate therefore allows more than single spikes: on the axis Time, an edit may
// change the whole frame of a step. On the other axes, an edit may change a row, a column or all
// pixels of a coordinate of the lattice, at all steps. A move in time does not leave the coordinate
// there, so any number of steps counts as one edit.
//
// The proof holds for the program at the kernel level on which it ran, rounding included, because
// it compares equal inputs alone.
package smooth
