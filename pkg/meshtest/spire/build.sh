#!/bin/sh
# Builds spire-server and spire-agent for the tests with build tag "spire" and
# prints the directory they are in. It takes three CPU-minutes the first time
# and nothing after that: the result is kept in $OUTRIGGER_CACHE (default
# ~/.cache/outrigger). The server needs a C compiler, for SQLite.
#
#   OUTRIGGER_SPIRE=$(pkg/meshtest/spire/build.sh) go test -tags spire -run SPIRE ./pkg/identity ./pkg/meshtest
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

# Plugins for clouds, clusters and hardware are three quarters of the build, and
# the tests configure none of them: they are left out of the lists of built-in
# plugins. All else is SPIRE as it was released.
unused='aws[a-z0-9]*|azure[a-z0-9]*|gcp[a-z0-9]*|gcsbundle|k8s[a-z0-9]*|docker|systemd|windows|vault|ejbca|certmanager|tpmdevid|sshpop|x509pop|httpchallenge'
for list in pkg/server/catalog/*.go pkg/agent/catalog/*.go; do
	sed -E "/($unused)(\.BuiltIn\(\),|\"\$)/d" "$list" >"$work/list"
	cat "$work/list" >"$list"
done

mkdir -p "$out"
for program in spire-agent spire-server; do
	[ -x "$out/$program" ] && continue
	echo "building $program" >&2
	CGO_CFLAGS=-O0 go build -p 2 -ldflags '-s -w' -o "$out/.$program" "./cmd/$program" # SQLite, unoptimised, is a minute less
	mv "$out/.$program" "$out/$program"
done
echo "$out"
