#!/usr/bin/env bash
# Runs all tests, in two lanes beside each other: each keeps about one core busy. The second lane's output comes at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

said=$(mktemp)
second=
trap 'kill "$second" 2>/dev/null; rm -f "$said"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
.venv/bin/python -m pytest -m slow --ignore tests/study >"$said" 2>&1 &
second=$!
status=0
.venv/bin/python -m pytest -m "not slow" || status=$?
.venv/bin/python -m pytest -m slow tests/study || status=$?
wait "$second" || status=$?
cat "$said"
exit "$status"
