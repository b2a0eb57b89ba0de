# The two commands of the README are `make demo` and `make test`; each sets up what it needs on a fresh machine.
.PHONY: demo test check setup clean

setup:
	@tools/setup

demo: setup
	@tools/demo

test: setup
	@tools/test

check: setup
	@tools/check

clean:
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
