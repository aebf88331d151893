# `make demo` and `make test` each set up whatever is missing first; `make quick` runs the everyday tests alone, `make gpu` those
# that need a CUDA device, and its bench: BENCH="--data.train=... --data.val=..." gives it betons; `make wheel` builds dist/*.whl.
# `make test-oldest` and `make test-newest` run the everyday tests with the oldest and newest versions that are supported.
.PHONY: demo test quick test-oldest test-newest gpu lint setup wheel clean
.DEFAULT_GOAL := demo
bin := .venv/bin

setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt scripts/setup.sh
	@bash scripts/setup.sh

demo: .venv/ready
	@$(bin)/deit-fast demo

test: lint
	@bash scripts/test.sh

quick: lint
	@$(bin)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal -m "not slow"

test-oldest test-newest:
	@bash scripts/versions.sh $(@:test-%=%)

gpu: .venv/ready
	@$(bin)/python -m pytest -m gpu
	@$(bin)/deit-fast bench gpu --data.decode=auto --augment.device=auto $(BENCH)

lint: .venv/ready
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --check .
	@$(bin)/mypy

wheel: .venv/ready
	@rm -rf build dist
	@$(bin)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

clean:
	rm -rf .venv .venv-oldest .venv-newest runs build dist
