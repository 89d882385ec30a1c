# RelayTrace. `make` lists what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Statements are checked against the committed .sqlx, so that a build needs no database.
export SQLX_OFFLINE = true
# Servers for one command, started on free ports and stopped after it.
WITH_SERVERS = cargo run --quiet --package relaytrace-servers --bin with-servers --

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run the whole product on http://127.0.0.1:8080 (PORT=… DEMO=0)
	@local/setup
	@cargo build --release --package local
	@exec target/release/relaytrace-local run

.PHONY: test
test: ## Prove it: unit, database, NATS, contract, verifier and browser tests
	@local/setup test
	cargo build --workspace --all-targets --all-features
	$(WITH_SERVERS) -- cargo test --workspace --all-features --quiet
	tests/contract/run
	tests/page/run
	target/debug/simulator drill --short

.PHONY: drill
drill: ## Prove the promises under real faults (NAME=…, RECORD=docs/drills.md)
	@local/setup test
	@cargo build --release --workspace
	@target/release/simulator drill $(NAME) $(if $(RECORD),--record $(RECORD))

.PHONY: check
check: check-tools ## Format, lints, dependencies, statements, what is generated, clean tree
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- --deny warnings
	cargo deny --log-level error check bans licenses sources
	cargo machete
	$(WITH_SERVERS) --postgres-only -- local/check-statements
	cargo run --quiet --package local -- openapi | diff - openapi.json
	cargo run --quiet --package local -- errors | diff - docs/errors.md
	@if [ -n "$$(git status --porcelain)" ]; then echo 'the tree is not clean:'; git status --short; exit 1; fi

.PHONY: check-tools
check-tools:
	@local/setup
	@command -v cargo-sqlx >/dev/null || cargo install --locked --debug --no-default-features --features postgres sqlx-cli@0.9.0
	@command -v cargo-deny >/dev/null || cargo install --locked --debug cargo-deny@0.20.2
	@command -v cargo-machete >/dev/null || cargo install --locked --debug cargo-machete@0.9.2

.PHONY: generate
generate: check-tools ## Write what is generated: .sqlx, openapi.json, docs/errors.md
	$(WITH_SERVERS) --postgres-only -- local/check-statements --write
	cargo run --quiet --package local -- openapi > openapi.json
	cargo run --quiet --package local -- errors > docs/errors.md

.PHONY: bench
bench: ## Compare the service with pgbench running the same statements
	@local/setup
	@cargo build --release --package local --package simulator
	@target/release/simulator bench

.PHONY: screenshots
screenshots: ## Draw the operator page's main states into docs/ (Chromium)
	@local/setup test
	tests/with-stack node tests/page/screenshots.mjs

.PHONY: clean-local
clean-local: ## Remove the local stack's state: database, stream, keys
	@if [ -L .local/postgres ]; then rm -rf "$$(readlink -f .local/postgres)"; fi
	@rm -rf .local/postgres .local/nats .local/secrets.json .local/dev.json .local/relaytrace.log
