from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.record.picture import picture_to_write


def test_a_picture_goes_where_it_is_asked_for_or_beside_the_result(tmp_path: Path) -> None:
    assert picture_to_write("plan.figure", "", "") is None
    assert picture_to_write("plan.figure", "", f"{tmp_path}/a.json") == tmp_path / "a.png"
    assert picture_to_write("plan.figure", f"{tmp_path}/b.png", f"{tmp_path}/a.json") == tmp_path / "b.png"
    for name in (str(tmp_path), f"{tmp_path}/missing/a.png"):
        with pytest.raises(UserError, match=f"^plan.figure={name}: want the name of a file in an existing folder"):
            picture_to_write("plan.figure", name, "")
