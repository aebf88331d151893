"""What is wrong with a loader's arguments, from Python, is one line that names the option, as on the command line."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from PIL import Image

from deit_fast.config import AugmentConfig, DataConfig, UserError, check_loading
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import Loader, eval_loader, train_loader

CPU = torch.device("cpu")
NUM_IMAGES = 24


class _Images:
    def __init__(self, labels: list[int]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, sample: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (40 + sample, 30), (9 * sample, 50, 200)), self._labels[sample]


def _stock_beton(path: Path, labels: list[int]) -> Path:
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(_Images(labels))
    return path


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _stock_beton(tmp_path_factory.mktemp("set") / "set.beton", [sample % 3 for sample in range(NUM_IMAGES)])


def _loaders(beton: Path, data: dict[str, Any], augment: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    """Functions that make a training and an evaluation loader."""
    given = {"train": str(beton), "val": str(beton), "batch_size": 8, "resolution": 32, "num_workers": 1, **data}
    where = {"rank": 0, "world_size": 1, "device": CPU, **{name: value for name, value in place.items() if name != "seed"}}
    arguments = DataConfig(**given), AugmentConfig(**augment)
    return {
        "train": lambda: train_loader(*arguments, seed=place.get("seed", 0), **where),
        "eval": lambda: eval_loader(*arguments, **where),
    }


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"batch_size": 0}, "data.batch_size=0: want >= 1"),
        ({"batch_size": -4}, "data.batch_size=-4: want >= 1"),
        ({"batch_size": 8.0}, "data.batch_size=8.0: want an integer"),
        ({"batch_size": "8"}, "data.batch_size='8': want an integer"),
        ({"batch_size": True}, "data.batch_size=True: want an integer"),
        ({"batch_size": None}, "data.batch_size=None: want an integer"),
        ({"eval_batch_size": -1}, "data.eval_batch_size=-1: want >= 1, or auto"),
        ({"resolution": 0}, "data.resolution=0: want 1 to 4096"),
        ({"resolution": 10**6}, "data.resolution=1000000: want 1 to 4096"),
        ({"resolution": 10**400}, f"data.resolution={10**400}: want 1 to 4096"),
        ({"eval_resolution": -1}, "data.eval_resolution=-1: want 1 to 4096, or auto"),
        ({"eval_crop_ratio": float("nan")}, "data.eval_crop_ratio=nan: want 0.1 to 1, or auto"),
        ({"num_workers": -1}, "data.num_workers=-1: want >= 1, or auto"),
        ({"batches_ahead": 0}, "data.batches_ahead=0: want 1 to 1000"),
        ({"batches_ahead": 10**9}, "data.batches_ahead=1000000000: want 1 to 1000"),
        ({"subset": -1}, "data.subset=-1: want >= 1, or all"),
        ({"window_gb": 0.0}, "data.window_gb=0.0: want above 0, up to 1e6"),
        ({"dtype": "int8"}, "data.dtype='int8': want one of float32, float16, bfloat16, uint8"),
        ({"interpolation": "nearest"}, "data.interpolation='nearest': want one of bicubic, "),
        ({"ramp": (0.5,)}, "data.ramp=(0.5,): want a tuple of 2 numbers"),
        ({"dct_scaling": "no"}, "data.dct_scaling='no': want True or False"),
        ({"train": 3}, "data.train=3: want text"),
    ],
)
def test_options_of_data(beton: Path, data: dict[str, Any], wanted: str) -> None:
    for make in _loaders(beton, data, {}, {}).values():
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(wanted)


@pytest.mark.parametrize(
    ("augment", "wanted"),
    [
        ({"repeats": 0}, "augment.repeats=0: want 1 to 255"),
        ({"std": (0.2, 0.0, 0.2)}, "augment.std=(0.2, 0.0, 0.2): want each >= 0.001"),
        ({"mean": (0.5, 0.5)}, "augment.mean=(0.5, 0.5): want a tuple of 3 numbers"),
        ({"mean": [0.5, 0.5, 0.5]}, "augment.mean=[0.5, 0.5, 0.5]: want a tuple of 3 numbers"),
        ({"crop_scale": (0.5, 0.1)}, "augment.crop_scale=(0.5, 0.1): want 0 < low <= high <= 1"),
        ({"erase_mode": "black"}, "augment.erase_mode='black': want one of pixel, rand, const"),
        ({"flip": -0.1}, "augment.flip=-0.1: want 0 to 1"),
    ],
)
def test_options_of_augment(beton: Path, augment: dict[str, Any], wanted: str) -> None:
    for make in _loaders(beton, {}, augment, {}).values():
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(wanted)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ({"seed": -1}, "seed=-1: want an integer, 0 to 2**63 - 1"),
        ({"seed": 2**63}, f"seed={2**63}: want an integer, 0 to 2**63 - 1"),
        ({"seed": 1.5}, "seed=1.5: want an integer, 0 to 2**63 - 1"),
        ({"world_size": 0}, "world_size=0: want an integer, 1 or more"),
        ({"world_size": "2"}, "world_size='2': want an integer, 1 or more"),
        ({"rank": 2, "world_size": 2}, "rank=2: want an integer, 0 to 1, below world_size"),
        ({"rank": -1}, "rank=-1: want an integer, 0 to 0, below world_size"),
    ],
)
def test_seed_and_ranks(beton: Path, place: dict[str, Any], wanted: str) -> None:
    for kind, make in _loaders(beton, {}, {}, place).items():
        if kind == "train" or "seed" not in place:
            with pytest.raises(UserError) as error:
                make()
            assert str(error.value).startswith(wanted)


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_path_that_is_not_set(beton: Path, name: str) -> None:
    make = _loaders(beton, {name: ""}, {}, {})["train" if name == "train" else "eval"]
    with pytest.raises(UserError, match=rf"^data\.{name} is not set: want the path of a beton"):
        make()


def test_epochs_steps_and_resolutions(beton: Path) -> None:
    loader: Loader = _loaders(beton, {}, {}, {})["train"]()
    for epoch, first_step in ((-1, 0), (65536, 0), (0, -1)):
        with pytest.raises(UserError, match=f"^epoch={epoch}, first_step={first_step}: want 0 to 65535, and 0 or more"):
            loader.set_epoch(epoch, first_step)
    loader.set_epoch(65535, first_step=1000)
    assert list(loader) == []
    for resolution in (0, -8, 5000):
        with pytest.raises(UserError, match=rf"^data\.resolution={resolution}: want 1 to 4096"):
            loader.set_resolution(resolution)


def test_numbers_of_numpy_and_paths_are_welcome(beton: Path) -> None:
    data = {"train": beton, "val": beton, "batch_size": np.int64(8), "window_gb": 4}
    places = {"seed": np.uint32(3), "rank": np.int64(0), "world_size": np.int32(1)}
    loaders = _loaders(beton, data, {"flip": np.float32(0.5), "mixup": None}, places)
    assert sum(len(batch.samples) for batch in loaders["train"]()) == NUM_IMAGES
    assert sum(len(batch.samples) for batch in loaders["eval"]()) == NUM_IMAGES


def test_a_batch_larger_than_the_set_takes_no_more_memory_than_the_set(beton: Path) -> None:
    [batch] = _loaders(beton, {"eval_batch_size": 10**12}, {}, {})["eval"]()
    assert batch.samples.tolist() == list(range(NUM_IMAGES))
    with pytest.raises(UserError, match=r"^data\.batch_size=1000000000000 on 1 rank\(s\) is more than the 24 training images"):
        _loaders(beton, {"batch_size": 10**12}, {}, {})["train"]()


def test_memory_that_is_not_to_be_had(tmp_path: Path) -> None:
    """Soft targets of as many classes as the largest label says."""
    beton = _stock_beton(tmp_path / "set.beton", [sample % 2 for sample in range(NUM_IMAGES - 1)] + [2**55])
    loader = _loaders(beton, {}, {}, {})["train"]()
    with pytest.raises(UserError, match=r"^5 batches of 8 take [\d,]+ bytes, more than memory allows: .*data\.batch_size"):
        next(iter(loader))


@pytest.mark.parametrize("label", [-1, -(2**40)])
def test_a_negative_label_is_named_with_its_sample(tmp_path: Path, label: int) -> None:
    labels = [sample % 3 for sample in range(NUM_IMAGES)]
    labels[7] = labels[9] = label
    beton = _stock_beton(tmp_path / "set.beton", labels)
    assert struct.pack("<q", label) in beton.read_bytes()
    for make in (*_loaders(beton, {}, {}, {}).values(), lambda: open_beton(beton)):
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(f"{beton}: sample 7 has label {label}: want 0 to the number of classes - 1; ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("section", ["data", "augment"])
def test_the_type_of_every_option_is_checked(section: str) -> None:
    sections: dict[str, Any] = {"data": DataConfig(), "augment": AugmentConfig()}
    check_loading(**sections, rank=0, world_size=1)
    for field in dataclasses.fields(sections[section]):
        changed = {**sections, section: dataclasses.replace(sections[section], **{field.name: object()})}
        with pytest.raises(UserError, match=rf"^{section}\.{field.name}=<object"):
            check_loading(**changed, rank=0, world_size=1)
