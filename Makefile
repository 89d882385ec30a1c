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
	@cargo build --package local
	@exec target/debug/relaytrace-local run

.PHONY: test
test: ## Prove it: unit, database, NATS, contract, verifier and browser tests
	@local/setup test
	cargo build --workspace --all-targets --all-features
	$(WITH_SERVERS) -- cargo test --workspace --all-features --quiet
	tests/contract/run
	EMULATOR_INSTANCES=4 tests/contract/run --on watch tests/contract/test_events.py tests/contract/test_handoff.py
	tests/lambda/run
	tests/page/run
	tests/with-stack npm --prefix sdk/typescript --silent test
	tests/with-stack python tests/documents/type.py
	tests/with-stack python tests/documents/observe.py
	tests/with-stack sdk/python/run-tests short
	tests/with-stack python -m pytest -q tests/commands
	tests/with-stack tests/aap/run short
	tests/with-stack tests/mcp/run short
	target/debug/simulator drill --short
	target/debug/simulator run smoke

.PHONY: test-agents
test-agents: ## Prove the SDKs and their adapters, with the frameworks' own fake models
	@local/setup test
	tests/with-stack sdk/python/run-tests
	tests/with-stack tests/aap/run
	tests/with-stack npm --prefix sdk/typescript --silent test
	tests/with-stack python tests/documents/first_decision.py
	DEMO=1 tests/with-stack python tests/documents/demo.py

.PHONY: test-mcp
test-mcp: ## Prove the MCP gateway with clients and servers of the official SDKs
	@local/setup test
	tests/with-stack tests/mcp/run

.PHONY: conformance
conformance: ## Play the table of frameworks and situations (ROW='langgraph crash', RECORD=1); half an hour
	@local/setup test
	tests/conformance/install
	RECORD=$(RECORD) tests/with-stack tests/conformance/run $(ROW)

.PHONY: quick
quick: ## Prove the core in minutes: the Rust workspace without the simulator, and the contract's handoff
	@local/setup test
	$(WITH_SERVERS) -- cargo test --workspace --all-features --exclude simulator --quiet
	tests/contract/run tests/contract/test_handoff.py tests/contract/test_decide.py tests/contract/test_poll.py \
	  tests/contract/test_idempotency.py tests/contract/test_acknowledge.py

.PHONY: drill
drill: ## Prove the promises under real faults (NAME=…, RECORD=docs/reports/drills.md)
	@local/setup test
	@cargo build --release --workspace
	@target/release/simulator drill $(NAME) $(if $(RECORD),--record $(RECORD))

.PHONY: pilot
pilot: ## Play the baseline and every fault, and judge them by Decision Record v0; writes the tables of docs/reports/pilot-findings.md
	@local/setup
	@cargo build --release --workspace --bins
	@target/release/simulator pilot --report docs/reports/pilot --memo docs/reports/pilot-findings.md

.PHONY: test-ways
test-ways: ## Run the contract's tests against eight processes, and in the Lambda emulator
	@local/setup test
	tests/contract/run --on binaries
	tests/contract/run --on watch

.PHONY: check
check: check-tools ## Format, lints, dependencies, statements, what is generated, clean tree
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --quiet
	cargo deny --log-level error check bans licenses sources
	cargo machete
	local/check-features
	$(WITH_SERVERS) --postgres-only -- local/check-statements
	cargo run --quiet --package local -- openapi | diff - contract/openapi.json
	cargo run --quiet --package local -- errors | diff - docs/errors.md
	.local/tools/bin/cfn-lint template.yaml
	python3 local/tests/check_migrations.py --quiet
	local/check-migrations
	python3 tests/documents/test_check.py --quiet
	python3 tests/documents/test_agents.py --quiet
	python3 tests/documents/check.py
	python3 tests/documents/observe.py --names
	python3 tests/conformance/test_table.py --quiet
	@if [ -n "$$(git status --porcelain)" ]; then echo 'the tree is not clean:'; git status --short; exit 1; fi

.PHONY: check-tools
check-tools:
	@local/setup test
	@command -v cargo-sqlx >/dev/null || cargo install --locked --debug --no-default-features --features postgres sqlx-cli@0.9.0
	@command -v cargo-deny >/dev/null || cargo install --locked --debug cargo-deny@0.20.2
	@command -v cargo-machete >/dev/null || cargo install --locked --debug cargo-machete@0.9.2

.PHONY: generate
generate: check-tools ## Write what is generated: .sqlx, contract/openapi.json, docs/errors.md
	$(WITH_SERVERS) --postgres-only -- local/check-statements --write
	cargo run --quiet --package local -- openapi > contract/openapi.json
	cargo run --quiet --package local -- errors > docs/errors.md

.PHONY: observe
observe: ## Watch the running stack with Prometheus and Grafana, where they are installed
	@local/observe

.PHONY: bench
bench: ## Compare the service with pgbench running the same statements (BENCH='--growth': and as it grows)
	@local/setup
	@cargo build --release --package local --package simulator
	@target/release/simulator bench $(BENCH)

.PHONY: bench-peer
bench-peer: ## Compare whole handoffs with Restate's, in turns, under the same load (RUNS=3; a quarter of an hour)
	@local/setup
	@cargo build --release --package local
	@simulator/peers/run

.PHONY: screenshots
screenshots: ## Draw the operator page's main states into docs/ (Chromium)
	@local/setup test
	tests/with-stack node tests/page/screenshots.mjs

.PHONY: watch
watch: ## Develop the functions as Lambdas: http://127.0.0.1:9000, rebuilt as they are edited (PORT=…)
	@local/setup test
	@cargo build --quiet --package local
	@PATH="$$PWD/.local/tools/bin:$$PATH" exec target/debug/relaytrace-local beside --port "$${PORT:-9000}" --sweep-seconds 0 -- \
	  cargo lambda watch --disable-cors --invoke-address 127.0.0.1 --invoke-port "$${PORT:-9000}" --concurrency 4

# Where to take base images from, if not from their public places: RUST_IMAGE=… RUNTIME_IMAGE=… make image
IMAGE_ARGUMENTS = $(foreach name,RUST_IMAGE RUNTIME_IMAGE PROFILE,$(if $($(name)),--build-arg $(name)=$($(name))))

.PHONY: image
image: ## Build the image of all functions, and print its size
	docker build --file local/Dockerfile $(IMAGE_ARGUMENTS) --tag relaytrace .
	docker build --file local/Dockerfile $(IMAGE_ARGUMENTS) --tag relaytrace-development --target development .
	@docker image inspect --format '{{.RepoTags}} {{.Size}} bytes' relaytrace relaytrace-development

.PHONY: image-test
image-test: ## Build the image and run the contract's tests against containers, where an engine is or can be started
	@local/image-test

.PHONY: cold-start
cold-start: ## Compare the start of a function with that of a hello-world Lambda
	@local/setup test
	@local/cold-start

.PHONY: clean-local
clean-local: ## Remove the local stack's state: database, stream, keys
	@if [ -L .local/postgres ]; then rm -rf "$$(readlink -f .local/postgres)"; fi
	@rm -rf .local/postgres .local/nats .local/secrets.json .local/dev.json .local/relaytrace.log
