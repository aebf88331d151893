"""A set stands in for another if it has the same images in the same order, stored at other sizes; else the error says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.format.beton import manifest_path
from deit_fast.data.load.loader import ShownSet, open_train_set
from deit_fast.data.load.same_images import check_same_images
from tests.data.image_folders import convert, make_images, smooth_image

SIZES = ((90, 121), (48, 64), (33, 200), (150, 101), (64, 64), (31, 17))


def shown(text: Path | str) -> ShownSet:
    data = DataConfig(train=str(text), batch_size=2, num_workers=1)
    return open_train_set(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many proportions, and their beton `all.beton` beside them."""
    root = tmp_path_factory.mktemp("sizes")
    for number, (height, width) in enumerate(SIZES * 2):
        path = root / "images" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_image(number, height, width)).save(path)
    convert(root / "images", root / "all.beton")
    return root


@pytest.mark.parametrize("options", [
    {"max_resolution": 16, "resize_side": "shortest"}, {"max_resolution": 23}, {"max_resolution": 40, "jpeg_quality": 50},
    {"max_resolution": 30, "mode": "raw"},
])  # fmt: skip
def test_images_written_smaller_are_the_same(images: Path, tmp_path: Path, options: dict[str, object]) -> None:
    convert(images / "images", tmp_path / "small.beton", **options)
    one, other = shown(images / "all.beton"), shown(tmp_path / "small.beton")
    check_same_images(one, other)
    check_same_images(other, one)


def _twice(images: Path, out: Path) -> str:
    return f"{images / 'all.beton'}*2"


def _other_names(images: Path, out: Path) -> str:
    convert(images / "images", out)
    manifest = json.loads(manifest_path(out).read_text())
    manifest_path(out).write_text(json.dumps(manifest | {"classes": ["a", "c"]}))
    return str(out)


def _other_labels(images: Path, out: Path) -> str:
    """The first image of class b in class a."""
    folder = out.with_suffix(".images")
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    for path in sorted((images / "images").rglob("*.png")):
        label = "a" if path.name == "01.png" else path.parent.name
        (folder / label / f"{path.parent.name}{path.name}").symlink_to(path)
    convert(folder, out)
    return str(out)


def _other_order(images: Path, out: Path) -> str:
    """The files of each class in another order, so that sizes change their places."""
    folder = out.with_suffix(".images")
    for path in sorted((images / "images").rglob("*.png")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / f"{99 - int(path.stem)}.png").symlink_to(path)
    convert(folder, out)
    return str(out)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_twice, r"all\.beton: has 24 images, and .*all\.beton has 12; want the same images in the same order"),
        (_other_names, r"other\.beton: has class 1 named 'c', which is 'b' in .*all\.beton"),
        (_other_labels, r"other\.beton: sample 6 has label 0, and 1 in .*all\.beton, as 1 labels differ"),
        (_other_order, r"other\.beton: sample 0 is 64x64, and 121x90 in .*all\.beton, so that one is not the other scaled"),
    ],
)
def test_other_images_are_refused(images: Path, tmp_path: Path, make: Callable[[Path, Path], str], message: str) -> None:
    text = make(images, tmp_path / "other.beton")
    with pytest.raises(UserError, match=message):
        check_same_images(shown(images / "all.beton"), shown(text))


def test_images_of_one_size_are_told_apart_by_their_pixels(tmp_path: Path) -> None:
    """Twelve images, all 48x64: two of one class have changed places; and one that does not decode may be any."""
    make_images(tmp_path / "images")
    convert(tmp_path / "images", tmp_path / "all.beton")
    first, second = (tmp_path / "images" / "dog" / f"000{number}.png" for number in (1, 2))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    convert(tmp_path / "images", tmp_path / "other.beton", max_resolution=20)
    both = shown(tmp_path / "all.beton"), shown(tmp_path / "other.beton")
    with pytest.raises(UserError, match=r"its sample [67].* looks unlike that of .*all\.beton, by \d+ grey levels"):
        check_same_images(*both)
    convert(make_images(tmp_path / "again"), tmp_path / "again.beton", mode="jpg")
    again = shown(tmp_path / "again.beton")
    content = bytearray((tmp_path / "again.beton").read_bytes())
    start = int(again.images.beton.offsets[0])
    content[start : start + int(again.images.beton.sizes[0])] = bytes(int(again.images.beton.sizes[0]))
    (tmp_path / "again.beton").write_bytes(content)
    check_same_images(both[0], shown(tmp_path / "again.beton"))
