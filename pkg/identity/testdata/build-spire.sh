#!/bin/sh
# Builds spire-server and spire-agent for the test with build tag "spire" and
# prints the directory they are in. It takes half an hour of two cores the first
# time, and nothing after that: the result is kept in $OUTRIGGER_CACHE
# (default ~/.cache/outrigger). The server needs a C compiler, for SQLite.
#
#   OUTRIGGER_SPIRE=$(pkg/identity/testdata/build-spire.sh) go test -tags spire -run SPIRE ./pkg/identity
set -eu

version=v1.13.0
cache=${OUTRIGGER_CACHE:-$HOME/.cache/outrigger}
out=$cache/spire-$version

if [ -x "$out/spire-server" ] && [ -x "$out/spire-agent" ]; then
	echo "$out"
	exit 0
fi

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# "go install" refuses the module because of its replace directives, and the
# module cache is read-only: hence a copy. From outside of our own module, so
# that its go.mod is not consulted.
cd "$work"
source=$(GOFLAGS=-mod=mod go mod download -json "github.com/spiffe/spire@$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
[ -n "$source" ] || { echo "go mod download github.com/spiffe/spire@$version gave no directory" >&2; exit 1; }
cp -R "$source" spire
chmod -R u+w spire
cd spire
mkdir -p "$out"
for program in spire-agent spire-server; do
	[ -x "$out/$program" ] && continue
	echo "building $program" >&2
	go build -trimpath -ldflags '-s -w' -o "$out/.$program" "./cmd/$program"
	mv "$out/.$program" "$out/$program"
done
echo "$out"
