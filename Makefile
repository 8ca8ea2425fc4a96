# Everything there is to run, for a person and for .ci/run. Needs Go, git and a
# POSIX shell; `make test` also a C compiler, for the race detector.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

# The toolchain is the one that go.mod names, whatever Go is installed and
# whatever GOTOOLCHAIN the environment has.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)

# What is expensive to make and not this tree's: other peers, Node. Kept between runs.
export OUTRIGGER_CACHE ?= $(HOME)/.cache/outrigger

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
BUF         := go run github.com/bufbuild/buf/cmd/buf@v1.75.0

# All build tags of tests that `make test` leaves out.
TAGS := netns,conformance,spire,istiod,sdks,bypass,peers

# What the binaries say they are.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

TESTFLAGS ?=
FUZZTIME  ?= 10s
OUTAGE    ?= 10m
BENCHTIME ?= 1s
INTERLEAVINGS ?= 1000000
DEMO      ?=
BENCH     ?=
ATTACK    ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the commands into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags "-X github.com/outrigger-mesh/outrigger/pkg/command.built=$(VERSION)" -o bin/ ./cmd/...

.PHONY: test
test: ## Run all tests with the race detector; TESTFLAGS=... adds flags
	@command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null || { echo "make test: the race detector needs a C compiler, and $$(go env CC) is not there: install gcc or clang" >&2; exit 1; }
	CGO_ENABLED=1 go test -race -shuffle=on -timeout 8m $(TESTFLAGS) ./...

.PHONY: lint
lint: ## Check format, vet, staticcheck, protos, and that generated code is current
	@.ci/lint-format
	go vet ./...
	go vet -tags $(TAGS) ./...
	$(STATICCHECK) -tags $(TAGS) ./...
	go mod verify
	go mod tidy -diff
	$(BUF) lint
	@BUF='$(BUF)' .ci/lint-generated

.PHONY: generate
generate: ## Make the code and the JSON Schemas that come from proto/ again
	$(BUF) generate

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s) each
	@FUZZTIME='$(FUZZTIME)' .ci/fuzz

.PHONY: bench
bench: build ## Measure calls, MCP policy, tunnels and streamed updates through a pair beside other pairs; BENCH=--quick, BENCH=updates
	go run ./pkg/meshtest/bench --programs bin $(BENCH)

.PHONY: microbench
microbench: ## Run all Go benchmarks for BENCHTIME (1s) each
	go test -run '^$$' -bench . -benchmem -benchtime '$(BENCHTIME)' ./...

.PHONY: demo
demo: build ## Watch an agent's calls cross a small mesh on loopback; DEMO=... adds flags
	bin/outrigger demo $(DEMO)

.PHONY: conformance
conformance: ## Run the MCP conformance suite direct and through the sidecars; needs npm, root and iptables
	go test -tags conformance -count=1 -timeout 15m $(TESTFLAGS) ./pkg/meshtest/conformance/...

.PHONY: sdks
sdks: ## Let real MCP clients and servers of five SDKs meet through the sidecars; needs npm and python3
	go test -tags sdks -count=1 -timeout 15m $(TESTFLAGS) ./pkg/meshtest/sdks

.PHONY: interleavings
interleavings: ## Admit connections amid changes in INTERLEAVINGS (10^6) random orders: no stale decision
	go test -count=1 -timeout 10m -v -run NoInterleaving $(TESTFLAGS) ./pkg/admission -interleavings $(INTERLEAVINGS)

.PHONY: bypass
bypass: ## Try to get past our policy and past Envoy's MCP filter, side by side, at real servers; needs npm and python3
	go test -tags bypass -count=1 -v -timeout 15m $(TESTFLAGS) ./pkg/meshtest/bypass

.PHONY: netns
netns: ## Run the tests that need network namespaces, iptables and ip
	@packages=$$(.ci/tagged netns) && echo go test -tags netns $$packages && \
	go test -tags netns -count=1 -timeout 10m $(TESTFLAGS) $$packages

.PHONY: attack
attack: build ## Attack a sidecar and measure it and a client beside it; ATTACK=... adds flags
	go run ./pkg/meshtest/attack/drive --programs bin $(ATTACK)

.PHONY: peers
peers: ## Put a real Envoy, Node's HTTP/2 and nghttp2's proxy at the other end of our tunnels; needs python3, node and nghttpx
	go test -tags peers -count=1 -timeout 5m $(TESTFLAGS) ./pkg/meshtest/peers

.PHONY: spire
spire: ## Get certificates from a real SPIRE, built once into the cache (three CPU-minutes)
	@dir=$$(pkg/meshtest/spire/build.sh) && packages=$$(.ci/tagged spire) && \
	OUTRIGGER_SPIRE=$$dir go test -tags spire -count=1 -run SPIRE $(TESTFLAGS) $$packages

.PHONY: istio-testbed
istio-testbed: ## Build a real istiod and kube-apiserver into the cache, once (about 10 minutes), and say where
	@istio/testbed

.PHONY: contract
contract: ## Hold outrigger-control, Istio's fake and a real istiod to one contract, and run sidecars under istiod
	@dir=$$(istio/testbed) && packages=$$(.ci/tagged istiod) && echo go test -tags istiod $$packages && \
	OUTRIGGER_ISTIO=$$dir go test -tags istiod -count=1 -timeout 12m $(TESTFLAGS) $$packages

.PHONY: outage
outage: ## Take the control plane away for OUTAGE (10m) while calls go on; seconds of it are in `make test`
	OUTAGE=$(OUTAGE) go test -count=1 -v -timeout 30m -run Minutes ./pkg/meshtest/outage

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .cache
