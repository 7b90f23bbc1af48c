#!/bin/sh
# Fails if the committed assembly differs from what the generators write. They write into a copy:
# other programs may be built from this folder meanwhile.
set -eu
cd "$(dirname "$0")"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r . "$copy"
(cd "$copy" && go generate generate.go)
for file in ./*_amd64.go ./*_amd64.s ./neon_arm64.go ./neon_arm64.s; do
	cmp "$file" "$copy/$file" || {
		echo "$file is not what its generator writes: run go generate ./internal/kernel" >&2
		exit 1
	}
done
