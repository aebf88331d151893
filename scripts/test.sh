#!/usr/bin/env bash
# Runs all tests but those that need a GPU, in up to four processes, and ends with a line for each stage: status and seconds.
set -uo pipefail
cd "$(dirname "$0")/.."

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
status=0

# stage NAME PYTEST-OPTIONS...
stage() {
  local name=$1 started=$SECONDS code=0
  shift
  .venv/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal "$@" || code=$?
  echo "$name: $([ $code = 0 ] && echo passed || echo "failed ($code)"), $((SECONDS - started)) s" >>"$lines"
  [ $code = 0 ] || status=$code
}

stage "everyday tests" -m "not slow"
stage "slow tests" -m slow
cat "$lines"
exit "$status"
