# `make demo` and `make test` each set up whatever is missing first; `make quick` runs the everyday tests alone, `make gpu` those
# that need a CUDA device, and its bench: BENCH="--data.train=... --data.val=..." gives it betons.
.PHONY: demo test quick gpu lint setup clean
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
	@$(bin)/python -m pytest -m "not slow"

gpu: .venv/ready
	@$(bin)/python -m pytest -m gpu
	@$(bin)/deit-fast bench gpu --data.decode=auto --augment.device=auto $(BENCH)

lint: .venv/ready
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --check .
	@$(bin)/mypy

clean:
	rm -rf .venv runs
