"""The public interface: what `import deit_fast` costs, and that every name is what it says."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import deit_fast

NAMES = sorted(set(deit_fast.__all__) - {"__version__"})


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import deit_fast; deit_fast.__all__; dir(deit_fast); deit_fast.DataConfig; "
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}; print(*loaded - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["deit_fast"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_module_defines_and_says_what_it_is(name: str) -> None:
    value = getattr(deit_fast, name)
    assert value is getattr(importlib.import_module(value.__module__), value.__name__)
    assert value.__module__.startswith("deit_fast.")
    assert value.__name__ == name or name == "train_classifier"
    assert inspect.getdoc(value)
    assert name in dir(deit_fast)


def test_train_classifier_is_the_command() -> None:
    from deit_fast.plan.training import train

    assert deit_fast.train_classifier is train


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="'deit_fast' has no attribute 'trainloader'"):
        deit_fast.trainloader  # noqa: B018


def test_every_name_stands_in_the_package_docstring_or_is_a_section() -> None:
    documented = inspect.getdoc(deit_fast)
    assert documented is not None
    assert [name for name in NAMES if name not in documented and not name.endswith(("Config", "Section"))] == []
