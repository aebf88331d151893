#!/usr/bin/env bash
# Runs all tests, in two lanes beside each other: each keeps about one core busy. The second lane's output comes at the end, then
# a line for each stage, with its status and its seconds.
set -uo pipefail
cd "$(dirname "$0")/.."

second_output=$(mktemp)
lines=$(mktemp)
set -m # each lane is a process group, which ends with this script
trap 'for lane in $(jobs -p); do kill -- "-$lane"; done 2>/dev/null; rm -f "$second_output" "$lines"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# stage NAME PYTEST-OPTIONS...
stage() {
  local name=$1 started=$SECONDS status=0
  shift
  .venv/bin/python -m pytest "$@" || status=$?
  echo "$name: $([ $status = 0 ] && echo passed || echo "failed ($status)"), $((SECONDS - started)) s" >>"$lines"
  return $status
}

first_lane() {
  local status=0
  stage "everyday tests" -m "not slow" || status=$?
  stage "slow tests of benches, plans, sweeps and reports" -m slow tests/benchmarks tests/plan tests/sweep tests/report || status=$?
  return $status
}

first_lane &
first=$!
stage "the other slow tests" -m slow --ignore tests/benchmarks --ignore tests/plan --ignore tests/sweep --ignore tests/report >"$second_output" 2>&1 &
second=$!
status=0
wait "$first" || status=$?
wait "$second" || status=$?
cat "$second_output" "$lines"
exit "$status"
