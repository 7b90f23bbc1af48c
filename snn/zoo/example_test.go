package zoo_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
)

// A network that PyTorch trained classifies an image. The file does not say how many
// time steps it was trained for, nor how images are normalized, so the configuration
// does.
func ExampleLoadTorch() {
	cfg := zoo.Default("conv8 A conv12 conv17 A conv8 | fc20 fc20 fc")
	cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 8, 8, 5, 4
	net, err := zoo.LoadTorch("testdata/vgg.pth", cfg)
	if err != nil {
		log.Fatal(err)
	}
	logits, err := net.Logits(snn.Pass{}, tensor.NewNCHW(1, 3, 8, 8)) // of a black image
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(logits), "logits")
	// Output: 5 logits
}
