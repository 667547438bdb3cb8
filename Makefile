# Three commands do everything, set-up included: `make run`, `make test`, `make lab`.

SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEMO ?= target/demo
EMBOT := target/release/embot

.PHONY: help run test lab bench fuzz deb setup

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

setup: ## install what the build needs (Debian, Ubuntu)
	@SUDO="$(SUDO)" .ci/setup

run: setup ## two planes on a simulated fleet: watch policies act, and guests go from one to the other
	cargo build --release
	@! $(EMBOT) --config $(DEMO)/north/plane.yaml status >/dev/null 2>&1 || { echo 'a demo runs in $(DEMO) already: end it first, or name another folder with DEMO='; exit 1; }
	@$(EMBOT) init $(DEMO) --demo --two-planes --mode act
	@printf '%s\n' '' \
	  'Two planes start on a simulated fleet, one for each site: 8 hosts, 40 guests. After half a minute the guests of one host get' \
	  'busy; once the host has been hot for 20 seconds, a policy moves guests off it. Before that, web-1 goes to the other plane, with all' \
	  'that is known of it. Stop with Ctrl-C. Meanwhile, in another terminal:' '' \
	  '  $(EMBOT) --config $(DEMO)/north/plane.yaml status' \
	  '  $(EMBOT) --config $(DEMO)/north/plane.yaml explain 25                    why was it done? (the number in a line `plan ...`)' \
	  '  $(EMBOT) --config $(DEMO)/north/plane.yaml maintenance north-2 on        the host is emptied, two guests at a time' \
	  '  $(EMBOT) --config $(DEMO)/north/plane.yaml migrate web-2 --to south      another guest goes over' \
	  '  $(EMBOT) --config $(DEMO)/south/plane.yaml elements web-1                where it belongs to that plane now' \
	  '  sed -i "s/hot: 0.85/hot: 0.8/" $(DEMO)/north/embots/relieve-hot-host.yaml   a new threshold takes over within a second' ''
	@trap 'kill $$pids $$guide 2>/dev/null; wait' EXIT; trap 'exit 0' INT TERM; \
	$(EMBOT) hypervisor --listen unix:$(DEMO)/fleet.sock --fleet demo & pids=$$!; \
	for plane in north south; do \
	  rm -f $(DEMO)/$$plane/embot.redb; \
	  $(EMBOT) run --config $(DEMO)/$$plane/plane.yaml --follow > >(sed -u "s/^/$$plane  /") 2>&1 & pids="$$pids $$!"; \
	done; \
	north="$(EMBOT) --config $(DEMO)/north/plane.yaml"; \
	{ until $$north peers 2>/dev/null | grep -q ' up ' && $$north elements web-1 2>/dev/null | grep -q 'plane north'; do sleep 0.5; done; \
	  echo 'guide  $$ embot migrate web-1 --to south --wait'; $$north migrate web-1 --to south --wait; } \
	  > >(sed -u '/^guide/!s/^/guide  /') 2>&1 & guide=$$!; \
	wait -n $$pids; echo 'one of them has ended, and so does the demo: see above why' >&2; exit 1

test: setup ## everything that needs no real guests
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	cargo test --quiet --lib --test api --test check --test crash --test handover --test house --test operate --test sandbox --test security --test shipped --test simulate --test top
	cargo test --quiet --test explorer -- --nocapture
	cargo test --quiet --test hypervisor -- --skip libvirt
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

fuzz: setup ## damaged bytes for every decoder that a peer reaches, SECONDS for each (60)
	SECONDS_EACH=$(or $(SECONDS),60) cargo test --quiet --test security decoders::damaged -- --nocapture

lab: setup ## the same on real libvirt hosts with real guests (root)
	cargo build
	@$(SUDO) tests/lab/demo.sh

deb: setup ## the Debian package, in target/debian
	@command -v cargo-deb >/dev/null || cargo install cargo-deb --locked
	cargo build --release
	@debian/generate target/release
	cargo deb --no-build

bench: setup ## the figures
	cargo bench
	cargo build --release
	@$(EMBOT) bench
