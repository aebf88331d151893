# `make demo` and `make test` each set up whatever is missing first; `make quick` runs the everyday tests alone; `make gpu` the bench
# of a CUDA device, then the tests that need one: BENCH="--data.train=... --out=gpu.json" gives it a beton and keeps its results,
# `make gpu PYTHON=python3` takes another environment than .venv, where there is no network to set one up; `make wheel` builds
# dist/*.whl. `make test-oldest` and `make test-newest` run the everyday tests with the oldest and newest versions that are supported.
# Elsewhere PYTHON, as in `PYTHON=/usr/bin/python3.12 make`, names the interpreter that makes an environment.
.PHONY: demo test quick test-oldest test-newest gpu lint setup wheel clean
.DEFAULT_GOAL := demo
bin := .venv/bin

# bytecode is kept: pytest takes 8 s of each process of tests for its assertions, and finds them there in the next stage
export PYTHONDONTWRITEBYTECODE :=

setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt scripts/setup.sh
	@bash scripts/setup.sh

demo: .venv/ready
	@$(bin)/deit-fast demo

test: .venv/ready
	@bash scripts/test.sh

quick: lint
	@$(bin)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal -m "not slow"

test-oldest test-newest:
	@bash scripts/versions.sh $(@:test-%=%)

named_python := $(if $(filter command,$(origin PYTHON)),$(PYTHON))
gpu: $(if $(named_python),,.venv/ready)
	@$(or $(named_python),$(bin)/python) -m deit_fast bench gpu --data.decode=auto --augment.device=auto $(BENCH)
	@$(or $(named_python),$(bin)/python) -m pytest -m "gpu and not slow"

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
