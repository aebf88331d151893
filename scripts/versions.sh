#!/usr/bin/env bash
# Takes `oldest` or `newest`: sets up .venv-oldest or .venv-newest beside .venv, with the oldest versions that pyproject.toml allows
# or the newest that there are, and runs the everyday tests in it. PYTHON names the interpreter: by default the oldest and the
# newest of 3.11 to 3.13 that are found.
set -euo pipefail
cd "$(dirname "$0")/.."

which=$1
candidates=(python3.11 python3.12 python3.13)
[ "$which" = newest ] && candidates=(python3.13 python3.12 python3.11)
python=${PYTHON:-}
for candidate in "${candidates[@]}"; do
  if [ -z "$python" ] && "$candidate" -c '' 2>/dev/null; then python=$candidate; fi
done
[ -n "$python" ] || { echo "versions: none of ${candidates[*]} is here; name one: PYTHON=/path/to/python make test-$which" >&2; exit 1; }

environment=.venv-$which
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
limits=()
[ "$which" = oldest ] && limits=(--constraint scripts/oldest.txt)
echo "versions: installing into $environment (about 6.5 GB; some minutes)"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "${limits[@]}" --editable '.[dev]'
"$environment/bin/python" -m pip list --disable-pip-version-check 2>/dev/null \
  | grep -iE '^(torch|torchvision|timm|numpy|numba|numba-cuda|pillow|pyarrow|scipy) '
exec "$environment/bin/python" -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal -m "not slow"
