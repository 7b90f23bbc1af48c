package download_test

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/download"
)

func Example() {
	cfg, err := download.Default()
	if err != nil {
		log.Fatal(err)
	}
	cfg.Progress = func(done, total int64) { fmt.Printf("\r%d of %d MB", done>>20, total>>20) }
	path, err := download.File(context.Background(), download.CIFAR10, cfg)
	if err != nil {
		log.Fatal(err)
	}
	train, test, err := dataset.ReadCIFAR10(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(train.N, "and", test.N, "images")
}
