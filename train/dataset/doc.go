// Package dataset reads labelled images and deals them out in mini-batches:
//
//	train, err := fashion.Train() // or ReadIDX, ReadCIFAR10, ReadCIFAR100, ReadFolder
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
// A [Set] is labels and a source of images, [PixelSource], which may lie in memory or
// anywhere else that a byte can be read from. Pixels stay bytes until a batch is
// made; there they become value/255, in [0,1]. Normalisation is part of the model,
// which takes it from [Moments] or [CIFARNormalization].
//
// A [Loader] shuffles and augments. Both are functions of its key: the order of an
// epoch depends on the key and the epoch, the crop and the flip of an image on the
// key, the epoch and the image's index, and neither on batch size, prefetching or
// threads.
//
// The package fashion, below this one, embeds a small set for a first try; the package
// download gets CIFAR.
package dataset
