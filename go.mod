module github.com/org/snnrat

go 1.26
