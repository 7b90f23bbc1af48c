// Package dataset reads labelled images and splits them into mini-batches:
//
//	train, err := fashion.Train()
//	if err != nil {
//		return err
//	}
//	loader, err := dataset.NewLoader(train, dataset.DefaultTraining(), rng.New(1))
//	if err != nil {
//		return err
//	}
//	for epoch := range 5 {
//		for batch, err := range loader.Epoch(ctx, epoch) {
//			if err != nil {
//				return err
//			}
//			step(batch.X, batch.Y)
//		}
//	}
//
// These functions read a set from files:
//
//   - [ReadIDX] reads MNIST and its kin.
//   - [ReadCIFAR10], [ReadCIFAR100] and [ReadCIFAR] read CIFAR's binary and Python versions.
//   - [ReadNPY] reads pairs of NumPy files, such as those of CIFAR-10-C, and [ReadNPZ]
//     pairs of arrays in one. An array of five axes holds frames.
//   - [ReadFolder] and [ReadFolderAs] read PNG and JPEG images from one folder for each class.
//
// They compare the sizes that a file claims with [Limits] before they allocate memory. They
// return an error for a file that is not a regular file.
//
// A [Set] consists of labels and a [PixelSource], which reads pixels from memory, files or
// elsewhere. Pixels are bytes. A batch holds them as float32 numbers, value/255, in [0,1].
// A set of examples with a frame for each time step has a [FrameSource] instead; see
// [NewFrameSet].
//
// Normalization is part of the model. The model takes it from [Set.Normalization], or from
// the [Moments] of the training set if the set has none.
//
// A test set must have the classes of the training set in the same order. [Set.ClassNames]
// returns the names of the classes, and [Set.WithClasses] changes the labels to those of
// another list.
//
// A [Loader] shuffles and augments with random numbers from its key. It takes any
// [snn.Dataset]. The order of an epoch depends on the key and the epoch. What an
// [Augmentation] draws for an image depends on the key, the epoch and the image's index. It
// does not depend on batch size, prefetching and threads.
//
// The package fashion in a subfolder embeds a small set for a first try. The package
// download downloads CIFAR.
package dataset
