// Quickstart is the program of README: it trains a small spiking network with RAT for one
// epoch on images of Fashion-MNIST, and prints its accuracy on clean images and under PGD.
//
//	go run ./examples/quickstart
package main
