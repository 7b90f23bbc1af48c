package pretrained_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo/pretrained"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset/fashion"
)

func ExampleLoad() {
	model, _, err := pretrained.Load("fashion-rat")
	if err != nil {
		log.Fatal(err)
	}
	test, err := fashion.Test()
	if err != nil {
		log.Fatal(err)
	}
	images := tensor.NewNCHW(2, 1, 28, 28)
	if err := test.Fill(images, []int{0, 1}); err != nil {
		log.Fatal(err)
	}
	logits, err := model.Logits(snn.Pass{}, images)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(logits), "logits")
	// Output: 20 logits
}
