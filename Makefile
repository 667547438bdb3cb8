# Three commands do everything, set-up included: `make run`, `make test`, `make lab`.

SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEMO ?= target/demo
EMBOT := target/release/embot

.PHONY: help run test lab bench fuzz setup

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

setup: ## install what the build needs (Debian, Ubuntu)
	@SUDO="$(SUDO)" .ci/setup

run: setup ## a plane on a simulated fleet: watch policies act
	cargo build --release
	@$(EMBOT) init $(DEMO) --demo --mode act
	@printf '%s\n' '' \
	  'A plane starts on a simulated fleet: two sites, 8 hosts, 40 guests. After half a minute the guests of one host get' \
	  'busy; once the host has been hot for 20 seconds, a policy moves guests off it. Stop with Ctrl-C. Meanwhile, in another terminal:' '' \
	  '  $(EMBOT) --config $(DEMO)/plane.yaml status' \
	  '  $(EMBOT) --config $(DEMO)/plane.yaml explain 41                       why was it done? (the number in a line `plan ...`)' \
	  '  $(EMBOT) --config $(DEMO)/plane.yaml maintenance north-2 on           the host is emptied, two guests at a time' \
	  '  sed -i "s/hot: 0.85/hot: 0.6/" $(DEMO)/embots/relieve-hot-host.yaml      a new threshold takes over within a second' ''
	@$(EMBOT) run --config $(DEMO)/plane.yaml --follow

test: setup ## everything that needs no real guests
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo test --quiet --lib --test check --test crash --test handover --test house --test sandbox --test security --test shipped --test simulate
	cargo test --quiet --test explorer -- --nocapture
	cargo test --quiet --test hypervisor -- --skip libvirt
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

fuzz: setup ## damaged bytes for every decoder that a peer reaches, SECONDS for each (60)
	SECONDS_EACH=$(or $(SECONDS),60) cargo test --quiet --test security decoders::damaged -- --nocapture

lab: setup ## the same on real libvirt hosts with real guests (root)
	cargo build
	@$(SUDO) tests/lab/demo.sh

bench: setup ## the figures
	cargo bench
	cargo build --release
	@$(EMBOT) bench
