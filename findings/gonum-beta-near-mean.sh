#!/bin/sh
# gonum 0.17.0: mathext.RegIncBeta is wrong near the mean for large a and b, up to values above 1.
#
# Its documentation says that the domain is 0 <= x <= 1 with a and b positive, and gives no other limit.
# I(1/2;a,a) is 1/2 for every a, since the density is symmetric. From a = 2^21 on the result is off in
# the fifth digit, and for a = 2^29 it is 1.6. No error or NaN tells. The distribution functions of
# distuv are computed by it: the chance that a fair coin shows heads in less than half of 2^30 − 1 throws
# is 1/2, and Binomial.CDF is 1.6. Survival is −0.6. Confidence bounds of Clopper and Pearson from so many
# samples are wrong, too.
#
# Output seen:
#   a 2^19  I(1/2;a,a) 0.50000000
#   a 2^21  I(1/2;a,a) 0.50003565
#   a 2^25  I(1/2;a,a) 0.58373813
#   a 2^27  I(1/2;a,a) 0.88498492
#   a 2^29  I(1/2;a,a) 1.61518816
#   fair coin, heads in at most 536870911 of 1073741823 throws: CDF 1.61518816, Survival -0.61518816
#
# Source: incbcf and incbd of mathext/internal/cephes/incbeta.go end a continued fraction after 300 terms,
# whether it has converged or not. Near the mean it needs more for large parameters.
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
	"gonum.org/v1/gonum/stat/distuv"
)

func main() {
	half := map[int]float64{}
	for _, e := range []int{19, 21, 25, 27, 29} {
		a := math.Ldexp(1, e)
		half[e] = mathext.RegIncBeta(a, a, 0.5)
		fmt.Printf("a 2^%d  I(1/2;a,a) %.8f\n", e, half[e])
	}
	n := math.Ldexp(1, 30) - 1
	coin := distuv.Binomial{N: n, P: 0.5}
	most := (n - 1) / 2
	heads := coin.CDF(most)
	fmt.Printf("fair coin, heads in at most %.0f of %.0f throws: CDF %.8f, Survival %.8f\n", most, n, heads, coin.Survival(most))
	if math.Abs(half[19]-0.5) > 1e-6 || half[21]-0.5 < 1e-5 || half[29] < 1 || heads < 1 {
		os.Exit(1)
	}
}
GO
go mod init example.com/finding 2>/dev/null
go get gonum.org/v1/gonum@v0.17.0 2>/dev/null
go run .
