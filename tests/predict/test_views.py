"""Views of files and betons: those of evaluation, in the order of the words, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig, SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.load.loader import eval_loader
from deit_fast.predict.inputs import list_images
from deit_fast.predict.views import ViewMaker
from deit_fast.train.trained import View
from tests.predict.images import encoded, own_threads, photograph, sound_files, written

VIEW = View(24, 0.8, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def views_of(*words: str | Path, batch_size: int = 5) -> tuple[list[str], torch.Tensor, dict[str, str]]:
    """Names and images in order, and the problems by name."""
    names: list[str] = []
    images: list[torch.Tensor] = []
    problems: dict[str, str] = {}
    with ViewMaker(VIEW, batch_size=batch_size, num_threads=2, batches_ahead=2, max_pixels=10**6) as maker:
        for batch in maker.batches(list_images(map(str, words))):
            assert len(batch.names) <= batch_size
            names += batch.names
            images.append(batch.images)
            problems |= {batch.names[place]: reason for place, reason in batch.problems.items()}
    return names, torch.cat(images), problems


@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_views_are_those_of_evaluation_to_the_bit(tmp_path: Path, mode: Literal["raw", "jpg"]) -> None:
    """Of every kind of file, where the beton holds its pixels unchanged; of JPEGs, where it holds them as JPEGs."""
    files = sound_files()
    if mode == "jpg":
        files = {name: files[name] for name in ("baseline.jpg", "grey.jpg", "progressive.jpg", "tall.jpg", "turned.jpg")}
    written(tmp_path / "images" / "one", files)
    beton = tmp_path / "set.beton"
    write_beton(SourceConfig(path=str(tmp_path / "images")), WriteConfig(out=str(beton), mode=mode, num_workers=1))
    data, augment = VIEW.shown_by(DataConfig(val=str(beton), num_workers=1), AugmentConfig())
    loader = eval_loader(data, augment, rank=0, world_size=1, device=torch.device("cpu"))
    wanted = torch.cat([batch.images.clone() for batch in loader])
    loader.close()
    for word in (tmp_path / "images", beton):
        names, images, problems = views_of(word)
        assert problems == {}
        assert len(names) == len(files)
        assert torch.equal(images, wanted)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_words_keep_their_order(digits: Path, tmp_path: Path) -> None:
    val = digits / "val"
    one = sorted((val / "2").glob("*.jpg"))[3]
    words: list[str | Path] = [one, digits / "val.beton", val / "1", f"{val}/[34]/*.jpg", f"{val}/**/*1.jpg", one]
    folders = [sorted(str(path) for path in (val / name).glob("*.jpg")) for name in ("1", "3", "4")]
    deep = sorted(str(path) for path in val.rglob("*1.jpg"))
    beton = [f"{digits / 'val.beton'}:{number}" for number in range(359)]
    names, images, problems = views_of(*words, batch_size=40)
    assert names == [str(one), *beton, *folders[0], *folders[1], *folders[2], *deep, str(one)]
    assert len(images) == len(names)
    assert problems == {}
    assert torch.equal(images[0], images[-1])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("missing.jpg", "predict.images=missing.jpg: no such file or folder"),
        ("*.nothing", r"predict.images=\*.nothing: matches no file"),
        ("empty", "predict.images: no images; want image files"),
    ],
)
def test_words_that_name_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        list_images([word])


def test_memory_is_for_a_few_batches_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "images", {f"{number:03}.jpg": encoded(photograph(number), "JPEG") for number in range(60)})
    begun: list[int] = []
    new_views = ViewMaker._new_views

    def counted(self: ViewMaker, count: int) -> Any:
        begun.append(count)
        return new_views(self, count)

    monkeypatch.setattr(ViewMaker, "_new_views", counted)
    with ViewMaker(VIEW, batch_size=4, num_threads=2, batches_ahead=2, max_pixels=10**6) as maker:
        for number, _ in enumerate(maker.batches(list_images([str(folder)]))):
            assert len(begun) <= number + 3
    assert own_threads() == []
    assert sum(begun) == 60
