# proxyd: the few commands that everybody needs. `make` alone lists them.

CARGO ?= cargo
# Black-box tests mostly wait for processes, so a few more threads than CPUs keep two CPUs busy.
TEST_THREADS ?= 4

.PHONY: help tools test fmt lint doc features ci bench

help:
	@echo "make test      install what the tests need, then run all of them"
	@echo "make ci        what every change has to pass (.ci/run)"
	@echo "make fmt       format the code"
	@echo "make lint      clippy with warnings denied"
	@echo "make doc       documentation with warnings denied"
	@echo "make bench     proxyd, nginx and HAProxy in one interleaved run"

tools:
	tests/install-tools.sh

test: tools
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --no-fail-fast

fmt:
	$(CARGO) fmt --all

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# The other crypto provider has to compile too.
features:
	$(CARGO) check --locked --no-default-features --features ring

ci:
	.ci/run

bench:
	benches/compare
