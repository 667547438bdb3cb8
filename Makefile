# Three commands do everything, set-up included: `make run`, `make test`, `make lab`.

SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEMO ?= target/demo

.PHONY: help run test lab bench lint setup

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

setup: ## install the build's libraries (Debian, Ubuntu)
	@SUDO="$(SUDO)" .ci/setup

run: setup ## a plane on a simulated fleet: watch policies act
	@cargo build --release --quiet
	@target/release/embot demo --directory $(DEMO)

test: setup ## everything that needs no real guests
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo test --quiet
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

lab: setup ## the same on real libvirt hosts with real guests (root)
	@cargo build --quiet
	@$(SUDO) tests/lab/demo.sh

bench: setup ## the figures of the README
	cargo bench
	cargo run --release --quiet -- bench
