package attack_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// A report prints itself.
func ExampleReport_String() {
	report := &attack.Report{
		Images: 4, Labels: []int{0, 1, 1, 0}, ClassNames: []string{"cat", "dog"},
		Clean: attack.Outcome{Name: "clean", Accuracy: 1, Predicted: []int{0, 1, 1, 0}},
		Attacks: []attack.Outcome{{
			Name: "FGSM", Accuracy: 0.75, Predicted: []int{0, 1, 0, 0}, Norm: "L∞", Eps: 8. / 255, InWorstCase: true,
		}},
		Survived: []bool{true, true, false, true}, WorstCase: 0.75, Norm: "L∞", Eps: 8. / 255,
	}

	fmt.Print(report)
	// Output:
	// Accuracy on 4 images, worst case within L∞ 8/255
	//
	//             accuracy %  95 % from     to  correct  zero gradient  in worst case  norm  eps    settings
	// clean            100.0       51.0  100.0        4
	// FGSM              75.0       30.1   95.4        3                 yes            L∞    8/255
	// worst case        75.0       30.1   95.4        3                                L∞    8/255
	//
	// class  name  images  clean %  95 % from     to  worst case %  95 % from     to
	//     0  cat        2    100.0       34.2  100.0         100.0       34.2  100.0
	//     1  dog        2    100.0       34.2  100.0          50.0        9.5   90.5
}

// The networks of two reports on the same images are compared by a test.
func ExampleMcNemar() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)
	cfg := zoo.Default("small").For(test)
	cfg.Steps = 4
	other, err := zoo.New(cfg, rng.New(2))
	if err != nil {
		log.Fatal(err)
	}
	pgd := attack.Named{Name: "PGD", Attack: attack.PGD(8./255, 0.01, 7, snn.BPTT{})}

	networks := []*snn.Model{model, other}
	reports, err := attack.EvaluateAll(ctx, networks, test, []attack.Named{pgd}, attack.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	c, err := attack.McNemar(reports[0], reports[1], "PGD") // or "clean", or "worst case"
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Under, c.Both+c.OnlyA+c.OnlyB+c.Neither, c.P <= 1)
	// Output: PGD 16 true
}

// A report keeps images by choice, and writes them as pictures and for NumPy.
func ExampleReport_WritePNG() {
	ctx, model, test := context.Background(), fashionModel(), fashionTest(16)
	fgsm := attack.Named{Name: "FGSM", Attack: attack.FGSM(8./255, snn.BPTR{})}
	folder, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)

	cfg := attack.DefaultConfig()
	cfg.Keep = func(i int) bool { return i < 10 } // the first ten images
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{fgsm}, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if err := report.WritePNG(folder); err != nil {
		log.Fatal(err)
	}
	if err := report.WriteNPZ(filepath.Join(folder, "images.npz")); err != nil {
		log.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Kept.Adversarial[0], entries[0].Name(), entries[1].Name())
	// Output: 10×1×28×28 1-FGSM-1.png images.npz
}
