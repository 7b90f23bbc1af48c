#!/bin/sh
# Fails if the committed assembly differs from what the generator writes. It writes into a copy:
# other programs may be built from this folder meanwhile.
set -eu
cd "$(dirname "$0")"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r _asm ./*.go "$copy"
(cd "$copy" && go generate generate.go)
for file in routines_amd64.go routines_amd64.s; do
	cmp "$file" "$copy/$file" || {
		echo "$file is not what its generator writes: run go generate ./train/dataset/event" >&2
		exit 1
	}
done
