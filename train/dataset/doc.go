// Package dataset reads labelled images and deals them out in mini-batches:
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
//   - [ReadNPY] reads pairs of NumPy files, such as those of CIFAR-10-C.
//   - [ReadFolder] and [ReadFolderAs] read PNG and JPEG images from one folder for each class.
//
// They hold the sizes that files claim against [Limits], and refuse what is not a regular
// file.
//
// A [Set] consists of labels and a [PixelSource], which may lie in memory or anywhere else
// that a byte can be read from. Pixels stay bytes until a batch is made. There they become
// value/255, in [0,1]. Normalization is part of the model. The model takes it from
// [Set.Normalization], or from the [Moments] of the training set if the set has none.
//
// A test set must have the classes of the training set in the same order.
// [Set.ClassNames] tells them, and [Set.WithClasses] relabels a set to another list.
//
// A [Loader] shuffles and augments. Both are functions of its key. The order of an epoch
// depends on the key and the epoch. The crop and the flip of an image depend on the key, the
// epoch and the image's index. Batch size, prefetching and threads change neither.
//
// The package fashion, below this one, embeds a small set for a first try. The package
// download gets CIFAR.
package dataset
