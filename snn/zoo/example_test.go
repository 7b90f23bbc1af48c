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

// A spiking_vgg11_bn that SpikingJelly trained with LIFNode(tau=2), whose input decays, so
// that the threshold of 1 is 2 here.
func ExampleLoadTorch_spikingJelly() {
	cfg := zoo.Default("spiking_vgg11")
	cfg.Classes, cfg.Steps = 10, 4
	cfg.Decay, cfg.Threshold = 1-1.0/2, 2*1
	cfg.Surrogate, cfg.SurrogateParam = "sigmoid", 4.0/2
	fmt.Println(zoo.Architectures[cfg.Arch])

	// This one has fewer channels and another threshold.
	cfg.Arch = "conv4 M conv6 M conv8 conv8 M conv8 conv8 M conv8 conv8 M | fc10 fc12 fc"
	cfg.Classes, cfg.Threshold = 5, 2*0.25
	net, err := zoo.LoadTorch("testdata/spiking_vgg.pth", cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(net.Classes(), "classes")
	// Output:
	// conv64 M conv128 M conv256 conv256 M conv512 conv512 M conv512 conv512 M | fc4096 fc4096 fc
	// 5 classes
}
