"""Fixtures of betons to verify: one of ours, its source, and one of stock FFCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton
from tests.data.examine.verified import SMALL_PAGE, make_tiny_images, write_stock
from tests.data.image_folders import convert


@pytest.fixture(scope="module")
def small_pages() -> Iterator[None]:
    """Betons that are written after this in the module have pages of SMALL_PAGE bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PAGE_BYTES", SMALL_PAGE)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `tiny`."""
    return make_tiny_images(tmp_path_factory.mktemp("source") / "images")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, small_pages: None, source: Path) -> Path:
    """A beton of JPEG and raw images with gaps between them."""
    out = tmp_path_factory.mktemp("tiny") / "tiny.beton"
    manifest = convert(source, out, mode="proportion", jpeg_share=0.6, seed=2)
    assert 0 < manifest["num_raw"] < 12
    beton = open_beton(out)
    ends = beton.offsets + beton.sizes
    assert (beton.offsets[1:] > ends[:-1]).sum() >= 2
    return out


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images and labels as FFCV's own writer writes them."""
    path = tmp_path_factory.mktemp("stock") / "stock.beton"
    write_stock(path, "jpg")
    return path
