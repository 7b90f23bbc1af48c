#!/bin/sh
# gonum 0.17.0: mathext.InvRegIncBeta loses the digits of a small y where the result is above 3/4.
#
# Its documentation says that it returns the x with y = I(x;a,b), for y in [0,1]. I(x;a,1) is x^a, so
# the exact result for b = 1 is y^(1/a). Once the search finds x above 3/4, it solves I(1−x;b,a) = 1 − y
# instead, where a small y has lost its digits, and the tolerance is relative to 1 − y. RegIncBeta of
# the result is 2.6 % above y for 1e-12, and a hundredth of y for 1e-15. The lower confidence bound
# of Clopper and Pearson is such a result with y = α: for 5000 successes of 5000 it is 5e-6 too high at
# α = 1e-12. RegIncBeta itself has its digits there, so a bisection of it is a way out.
#
# Output seen (a = 5000, b = 1):
#   y 1e-03  x 0.998619402847  exact 0.998619402847  x too high by  1.11e-16  I(x) 1.000000e-03
#   y 1e-09  x 0.995863925370  exact 0.995863924054  x too high by  1.32e-09  I(x) 1.000007e-09
#   y 1e-12  x 0.994494152878  exact 0.994489037155  x too high by  5.12e-06  I(x) 1.026054e-12
#   y 1e-15  x 0.992176582710  exact 0.993116048421  x too high by -9.39e-04  I(x) 8.807713e-18
#
# Source: Incbi of mathext/internal/cephes/incbi.go, "y0 = 1.0 - yy0".
# Exits with 0 if it behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"fmt"
	"math"
	"os"

	"gonum.org/v1/gonum/mathext"
)

func main() {
	const a = 5000
	worst := 0.0
	for _, y := range []float64{1e-3, 1e-9, 1e-12, 1e-15} {
		x := mathext.InvRegIncBeta(a, 1, y)
		exact := math.Exp(math.Log(y) / a)
		again := mathext.RegIncBeta(a, 1, x)
		fmt.Printf("y %.0e  x %.12f  exact %.12f  x too high by %9.2e  I(x) %.6e\n",
			y, x, exact, x-exact, again)
		worst = max(worst, math.Abs(again/y-1))
		if math.Abs(mathext.RegIncBeta(a, 1, exact)/y-1) > 1e-9 {
			os.Exit(1)
		}
	}
	if worst < 0.01 {
		os.Exit(1)
	}
}
GO
go mod init example.com/finding 2>/dev/null
go get gonum.org/v1/gonum@v0.17.0 2>/dev/null
go run .
