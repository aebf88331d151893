"""Pages of HTML that need no other file: rendered from the templates of this folder, with their style and script inside."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deit_fast.config import UserError
from deit_fast.record.run import write_bytes

_FOLDER = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """A page of a template, which wants a title among its values. All text in the values is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(style=_own("style.css"), script=_own("sort.js"), **values)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, and the folders above it. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); want a folder that you may write to") from None


def _own(name: str) -> dict[str, str]:
    """A file of ours that the page holds as it is, and the digest by which its policy lets it pass."""
    content = (_FOLDER / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return {"content": Markup(content), "digest": f"'sha256-{digest}'"}
