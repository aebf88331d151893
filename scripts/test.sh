#!/usr/bin/env bash
# Runs lint and all tests but those that need a GPU, these in up to four processes, and ends with a line for each stage: status
# and seconds. Tests do not start if lint fails.
set -uo pipefail
cd "$(dirname "$0")/.."

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
status=0

# stage NAME COMMAND...
stage() {
  local name=$1 started=$SECONDS code=0
  shift
  "$@" || code=$?
  echo "$name: $([ $code = 0 ] && echo passed || echo "failed ($code)"), $((SECONDS - started)) s" >>"$lines"
  [ $code = 0 ] || status=$code
}

tests=(.venv/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal)
stage lint make --no-print-directory lint
if [ "$status" = 0 ]; then
  stage "everyday tests" "${tests[@]}" -m "not slow"
  stage "slow tests" "${tests[@]}" -m slow
fi
cat "$lines"
exit "$status"
