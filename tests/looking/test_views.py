"""The sheet of `views` shows the very pixels of training, and says of them what is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.augment.policy import parse, policy_of
from deit_fast.config import AugmentConfig, DataConfig, RunConfig, UserError
from deit_fast.data.load.loader import train_loader
from deit_fast.looking.operations import in_words, operations_of, single_operation, steps_of
from deit_fast.looking.pixels import as_levels
from deit_fast.looking.view_maker import ViewMaker, plain
from deit_fast.looking.views import show_views
from tests.report.made_up_runs import Page
from tests.tiny_runs import with_options

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalised_levels_come_back(dtype: torch.dtype) -> None:
    """All 256 levels of each channel: exactly from float32 and float16, and as far as bfloat16 has them."""
    levels = torch.arange(256, dtype=torch.float64).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    images = ((levels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).to(dtype)
    is_bfloat16 = dtype == torch.bfloat16
    array = images.contiguous().view(torch.uint16).numpy() if is_bfloat16 else images.numpy()
    back = as_levels(array, MEAN, STD, is_bfloat16=is_bfloat16)
    wanted = (255 * (images.double() * torch.tensor(STD) + torch.tensor(MEAN))).round().clamp(0, 255).numpy()
    np.testing.assert_array_equal(back, wanted)
    assert (back != levels.numpy()).mean() <= (0.5 if is_bfloat16 else 0)


def test_what_is_in_no_image_is_cut_off_and_uint8_stays() -> None:
    images = np.array([-100.0, 0.0, 100.0], np.float32).reshape(1, 1, 1, 3)
    assert as_levels(images, (0.5, 0.5, 0.5), STD).ravel().tolist() == [0, 128, 255]
    same = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(as_levels(same, MEAN, STD), same)


def test_operations_of_a_policy_are_those_that_it_draws() -> None:
    names = [one.name for one in operations_of(parse("rand-m9-mstd0.5-inc1", 0.0, "bicubic"))]
    assert (len(names), names[:3], names[4]) == (15, ["AutoContrast", "Equalize", "Invert"], "PosterizeIncreasing")
    three = operations_of(parse("3a", 0.3, "bicubic"))
    assert [(one.name, one.magnitude) for one in three] == [("Grayscale", 0.0), ("Solarize", 5.0), ("GaussianBlurRand", 10.0)]
    posterize = next(one for one in operations_of(parse("original", 0.0, "bicubic")) if one.name == "PosterizeOriginal")
    assert posterize.magnitude == 8.0  # of 5, 6, 7 and 8
    assert in_words(("rotate", -12.53)) == "rotate -12.5"
    assert in_words(("auto_contrast", 0.0)) == "auto contrast"


def maker_of(digits: Path, augment: AugmentConfig, **data: Any) -> ViewMaker:
    options = {"batch_size": 48, "resolution": SIDE, "num_workers": 1, **data}
    return ViewMaker(DataConfig(train=str(digits / "train.beton"), **options), augment, seed=3)


@pytest.mark.slow
def test_views_are_those_of_the_loader(digits: Path) -> None:
    """The first batch of epoch 0 as the loader makes it, without and with a policy, erased and mixed."""
    augment = AugmentConfig()
    maker = maker_of(digits, augment)
    ids = maker.order.batches(0)[0]
    for alone_in_batch in (plain(augment), augment):
        loader = train_loader(maker.data, alone_in_batch, seed=3, rank=0, world_size=1, device=torch.device("cpu"))
        batch = next(iter(loader))
        images = batch.images.permute(0, 2, 3, 1).double()
        wanted = (255 * (images * torch.tensor(STD) + torch.tensor(MEAN))).round().clamp(0, 255).numpy()
        shown = maker.views(ids, plain(augment)) if alone_in_batch is not augment else maker.batch(ids)[0]
        np.testing.assert_array_equal(shown, wanted)
        loader.close()
    np.testing.assert_array_equal(maker.batch(ids)[1], batch.targets.numpy())


@pytest.mark.slow
def test_each_operation_alone_does_what_its_argument_says(digits: Path) -> None:
    maker = maker_of(digits, AugmentConfig())
    policy = policy_of(maker.augment, "bicubic")
    ids = maker.order.batches(0)[0][:6]
    before = maker.views(ids, plain(maker.augment)).astype(int)
    for name, magnitude, made in (
        ("Invert", 9.0, lambda argument: 255 - before),
        ("SolarizeIncreasing", 6.0, lambda argument: np.where(before >= argument, 255 - before, before)),
        ("PosterizeIncreasing", 3.0, lambda argument: before & ~((1 << (8 - int(argument))) - 1)),
        ("SolarizeAdd", 2.0, lambda argument: np.where(before < 128, np.minimum(255, before + argument), before)),
    ):
        operation = next(one for one in operations_of(policy) if one.name == name)
        only = single_operation(policy, operation, magnitude)
        steps = steps_of(only, 3, ids, SIDE)
        assert all(len(one) == 1 for one in steps)
        np.testing.assert_array_equal(maker.views(ids, plain(maker.augment), only), made(steps[0][0][1]))


@pytest.fixture
def config(digits: Path, tmp_path: Path) -> RunConfig:
    options = {
        "source.path": str(digits / "val"), "data.batch_size": 48, "data.resolution": SIDE, "data.num_workers": 1,
        "augment.flip": 0.0, "augment.color_jitter": 0.2, "views.images": 5,
        "views.html": str(tmp_path / "page" / "views.html"),
    }  # fmt: skip
    return with_options(options)


@pytest.mark.slow
def test_page_and_sheet_of_an_image_folder(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    result = show_views(config)
    html, png = Path(result["html"]), Path(result["png"])
    assert capsys.readouterr().out == f"views of 5 images: {html}, {png}\n"
    assert len(result["samples"]) == len(set(result["samples"])) == 5
    rotations = [one for one in result["operations"] if one["operation"] == "Rotate"]
    assert [one["magnitude"] for one in rotations] == pytest.approx([3, 3, 6, 6, 9, 9])
    assert [abs(one["argument"]) for one in rotations] == pytest.approx([9, 9, 18, 18, 27, 27])
    assert len([one for one in result["operations"] if one["operation"] == "Invert"]) == 2  # no magnitude, two images
    by_kind = {kind: [one for one in result["mixed"] if one["kind"] == kind] for kind in ("Mixup", "CutMix")}
    assert [len(found) for found in by_kind.values()] == [5, 5]
    for one in result["mixed"]:
        share = max(one["share"], 1 - one["share"])
        if len(one["targets"]) == 2:  # of two classes: label smoothing 0.1 over ten of them
            assert list(one["targets"].values()) == pytest.approx([0.9 * share + 0.01, 0.9 * (1 - share) + 0.01], abs=1e-6)
        else:
            assert list(one["targets"].values()) == pytest.approx([0.91], abs=1e-6)
    page = Page(html)
    names = [text for text in page.texts if text]
    sections = ["In evaluation", "Repeats", "Operations", "The policy", "Erasing", "Mixing", "The first batch"]
    assert [text for text in names[names.index(sections[0]) :] if text in sections] == sections
    assert any(text.startswith("m 6: ") for text in names)
    groups = 5 + 15 + 2 * (3 + 12 * 3 + 1) + 6 + 15 + 5 + 10 + 15
    assert len(page.values("img", "src")) == groups
    assert all(source.startswith("data:image/png;base64,") for source in page.values("img", "src"))
    with Image.open(png) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
        assert sheet.size[0] == 1600
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    before = html.read_bytes(), png.read_bytes()
    assert show_views(config) == result
    assert (html.read_bytes(), png.read_bytes()) == before
    other = show_views(config.changed({"train.seed": 1}))
    assert other["samples"] != result["samples"]


def test_what_cannot_be_shown_is_refused(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"views\.html=a\.png: want a name that ends in \.html"):
        show_views(config.changed({"views.html": "a.png"}))
    with pytest.raises(UserError, match=r"data\.train is not set: want a beton there, or images as source\.path"):
        show_views(config.changed({"source.path": ""}))
