"""A fixture for the tests of transcoding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deit_fast.data.convert import transcode as jpeg


@pytest.fixture(scope="module", params=[False, True], ids=["copied", "optimized"])
def transcoder(request: pytest.FixtureRequest) -> Iterator[jpeg.Transcoder]:
    """With the Huffman tables of the source, and with the smallest."""
    transcoder = jpeg.Transcoder(optimize=request.param)
    yield transcoder
    transcoder.close()
