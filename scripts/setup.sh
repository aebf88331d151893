#!/usr/bin/env bash
# Takes a Debian or Ubuntu machine, gives .venv with deit_fast and everything that it needs, at the versions of
# constraints.txt. Run by make; does nothing that was done before.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

python=
for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || die "no Python 3.11 or newer found; install one, or name it: PYTHON=/path/to/python3.11 make"

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v pkg-config >/dev/null || missing+=(pkg-config)
pkg-config --exists opencv4 2>/dev/null || missing+=(libopencv-dev)
pkg-config --exists libturbojpeg 2>/dev/null || missing+=(libturbojpeg0-dev)
command -v jpegtran >/dev/null || missing+=(libjpeg-turbo-progs)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' \
  || missing+=(python3-dev)

if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: missing system packages: ${missing[*]}"
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  as_root=
  if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then as_root=sudo; else as_root=none; fi
  fi
  if ! command -v apt-get >/dev/null || [ "$as_root" = none ]; then
    die "cannot install them here; run: sudo $install
  or, with conda: conda install -c conda-forge 'opencv<5' libjpeg-turbo pkg-config cxx-compiler"
  fi
  $as_root apt-get update -qq
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive $as_root $install >"$log" 2>&1 \
    || { tail -n 20 "$log" >&2; die "apt-get failed, see above and $log; the command was: $as_root $install"; }
  rm -f "$log"
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setup: installing into .venv (about 6.5 GB with torch's CUDA libraries; some minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
.venv/bin/python -c 'import torch, torchvision, timm, ffcv, fastargs' || die "the installed packages do not import"
.venv/bin/python -m deit_fast.data.compile_at_setup || die "the package does not run"
touch .venv/ready
