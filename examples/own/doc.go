// Command own trains and attacks a network with parts of its own: a neuron, a surrogate, a
// loss and an attack, each of them a value of a Go type of this package.
//
//	go run ./examples/own
//
// It trains on the embedded part of Fashion-MNIST and prints a report of two attacks, its own and PGD. Copy
// main.go to begin with your own. The page docs/extend.md describes every kind of part, and
// docs/own.md goes through this program.
package main
