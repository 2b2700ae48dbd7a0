# What there is to do with a clone of Weft. Everything that needs root says so; what is missing is installed first.
#
#   make demo        shows the product: three sites, one mesh, a guest that moves (under a minute after the build)
#   make test        every test that CI runs (under 25 minutes on two cores)
#   make soak        the tests that take longer
#   make bench       measured claims
#   make lint        format, lints, dependencies
#   make fuzz-smoke  a short run of every fuzz target
#   make verify-protocol  the symbolic models of the sealed mesh (two minutes, once the checker is built)

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test soak bench lint fuzz-smoke verify-protocol
.DEFAULT_GOAL := demo

demo:
	@tests/setup.sh demo
	@$(CARGO) build --locked --release -p edge-node --bin weft
	@$(TARGET)/release/weft demo $(DEMO_ARGS)

test:
	@tests/setup.sh test
	@tests/run.sh

soak:
	@tests/setup.sh test
	@tests/run.sh soak

bench:
	@tests/setup.sh build
	@$(CARGO) bench --locked -p bench

lint:
	@tests/setup.sh build
	@tests/lint.sh

fuzz-smoke:
	@tests/setup.sh build
	@tests/fuzz/run.sh

verify-protocol:
	@tests/setup.sh build
	@docs/mesh-security/verify.sh
