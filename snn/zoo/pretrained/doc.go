// Package pretrained embeds trained networks, so that a program can attack and judge them without a
// training:
//
//	m, cfg, err := pretrained.Load("fashion-rat")
//
// Their metadata hold the settings of the training and its metrics by epoch, in Model.Meta under
// snnrat.paper.recipe and snnrat.paper.history.
//
// # Fashion-MNIST
//
// These are of the architecture small with T = 4 ([zoo.Architectures]), for the embedded images of
// package fashion. They were trained on its 6,000 training images for 5 epochs with seed 1. Each file
// has 124 KB.
//
//	name             training                                         clean    worst case, ε = 16/255
//	fashion-vanilla  cross-entropy, L2 weight decay                   85.6 %   6.2 %
//	fashion-rat      RAT (Ding et al. 2022), ε = 8/255, β = 0.004     84.3 %   44.4 %
//	fashion-robust   train.Robust with PGD-4, ε = 8/255               83.9 %   60.0 % of the first 200
//
// The figures are those of all 1,000 test images, where the table says no other number. This command
// makes them, with -images 200 for the worst case of fashion-robust. They were measured with the
// version that added the networks, on a processor with AVX2:
//
//	go run ./examples/robust -net pretrained:fashion-vanilla -net pretrained:fashion-rat \
//		-net pretrained:fashion-robust -data fashion-mini -eps 16/255 -preset quick -curve none
//
// The preset quick is the shortest one. Longer attacks break more images. The networks were trained
// at commit def0a21 by
//
//	go run ./examples/paper -exp audit -scale mini -data fashion-mini -methods vanilla,rat,mart
//
// # CIFAR-10
//
// These are a VGG-11 of an eighth of the width, with T = 4. They were trained on all 50,000 images with
// seed 1, cifar-robust for 8 epochs and the others for 30. The images come from JPEG re-encodings of CIFAR-10, so pixels carry JPEG
// loss. The weights were rounded to float16 afterwards, so that a file has 1.9 MB.
//
//	name           training                                       clean    worst, ε = 2/255   8/255
//	cifar-vanilla  cross-entropy, L2 weight decay                 78.4 %    3.6 %             0.0 %
//	cifar-rat      RAT (Ding et al. 2022), ε = 2/255, β = 0.001   74.6 %   23.0 %             1.0 %
//	cifar-robust   train.Robust with PGD-4, ε = 4/255             55.8 %   28.6 %            10.2 %
//
// The figures are those of the first 500 test images, by this command and the same with -eps 8/255, on
// a processor with AVX2. DIR has the images in the binary layout; cifar10 downloads them, and
// differs by the JPEG loss:
//
//	go run ./examples/robust -net pretrained:cifar-vanilla -net pretrained:cifar-rat \
//		-net pretrained:cifar-robust -data DIR -eps 2/255 -preset quick -images 500 -curve none
//
// The networks before the rounding were trained at commit 3eca3fe by
//
//	go run ./examples/paper -exp audit -methods vanilla,rat -battery none -scale small -arch vgg11 \
//		-width 0.125 -train 0 -epochs 30 -row-share 1 -test 100 -radii 8 -data DIR
//
// and cifar-robust at b5f76ae by the same with -methods mart, -eps 4 and -epochs 8.
//
// An import of this package adds the files of all networks to a program.
package pretrained
