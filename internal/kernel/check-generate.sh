#!/bin/sh
# Regenerates the assembly and fails if the committed files differ from what the
# generators write.
set -eu
cd "$(dirname "$0")"
was=$(mktemp -d)
trap 'rm -rf "$was"' EXIT
cp ./*_amd64.go ./*_amd64.s ./neon_arm64.go ./neon_arm64.s "$was"
go generate .
for file in ./*_amd64.go ./*_amd64.s ./neon_arm64.go ./neon_arm64.s; do
	cmp "$file" "$was/$file" || {
		echo "$file is not what its generator writes: run go generate ./internal/kernel" >&2
		exit 1
	}
done
