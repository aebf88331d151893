"""Finds the addresses of other machines in an option that names betons, and what each stands for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from deit_fast.config import UserError
from deit_fast.data.fetch.remote import listed_there
from deit_fast.data.format.beton_list import absolute
from deit_fast.data.format.braces import expanded_braces

_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
_WEIGHT = re.compile(r"(.*)\*(\d+)")
_COMMA = re.compile(r",(?![^{}]*\})")  # outside braces


class Named(NamedTuple):
    """A part of an option between commas. is_address: on another machine; else `text` is what local betons are named by.

    times: how often an epoch shows the samples at an address.
    """

    text: str
    is_address: bool
    times: int = 1


def has_address(text: str) -> bool:
    """Whether an option names a beton on another machine."""
    return any(_ADDRESS.match(part) for part in _COMMA.split(text))


def named_betons(text: str, option: str) -> list[Named]:
    """The parts of an option, in order; one for each address of a pattern.

    An address may have braces (`https://host/set-{00000..00015}-of-00016.beton`), wildcards where the server can list its files
    (`s3://bucket/set-*.beton`), and a weight (`*2`). Raises UserError for wildcards that match nothing.
    """
    found: list[Named] = []
    for part in _COMMA.split(text):
        if not _ADDRESS.match(part):
            found.append(Named(part, False))
            continue
        weighted = _WEIGHT.fullmatch(part.strip())
        stem, times = (weighted[1], int(weighted[2])) if weighted else (part.strip(), 1)
        if times < 1:
            raise UserError(f"{option}={text}: weight {times} of {stem}: want 1 or more, or leave the beton out")
        for address in expanded_braces(stem):
            found += [Named(one, True, times) for one in listed_there(address, option)]
    return found


def in_any_folder(text: str, option: str) -> str:
    """A text that names the same betons, now and in any folder."""
    if not has_address(text):
        return absolute(text, option)
    parts = [part if _ADDRESS.match(part) else absolute(part, option) for part in _COMMA.split(text)]
    return ",".join(parts)


def file_name(address: str) -> str:
    """The name of the file at an address, for its copy."""
    name = Path(address.partition("?")[0]).name
    return re.sub(r"[^A-Za-z0-9._-]", "_", name) or "beton"
