// Package pretrained embeds trained networks, so that a program can attack and judge them without a
// training:
//
//	m, cfg, err := pretrained.Load("fashion-rat")
//
// All are of the architecture small with T = 4 ([zoo.Architectures]), for the embedded images of
// package fashion. They were trained on its 6,000 training images for 5 epochs with seed 1. Each file
// has 124 KB. Its metadata hold the settings of the training and its metrics by epoch, in Model.Meta
// under snnrat.paper.recipe and snnrat.paper.history.
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
// An import of this package adds the files of all networks to a program.
package pretrained
