"""The loader against Pillow and torchvision, through betons that stock FFCV wrote; its threads, errors and repeatability."""

import dataclasses
import gc
import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import ffcv.fields
import ffcv.loader
import ffcv.transforms
import ffcv.writer
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data import ffcv_ops
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from deit_fast.data.load.views import NO_VIEW, Made, Slot
from deit_fast.kernels import crop, rng
from tests.pillows import resized, with_shorter_side

CPU = torch.device("cpu")
NUM_IMAGES, NUM_CLASSES = 50, 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Images:
    """Smooth random images of various sizes, the same at each look."""

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        generator = np.random.default_rng(index)
        height, width = generator.integers(40, 120, 2)
        noise = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC), index % NUM_CLASSES


@pytest.fixture(scope="module", params=["jpg", "raw"])
def beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("betons") / f"{request.param}.beton"
    fields = {"image": ffcv.fields.RGBImageField(write_mode=request.param), "label": ffcv.fields.IntField()}
    ffcv.writer.DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(_Images())
    return path


@pytest.fixture(scope="module")
def jpeg_beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("betons") / "images.beton"
    fields = {"image": ffcv.fields.RGBImageField(write_mode="jpg"), "label": ffcv.fields.IntField()}
    ffcv.writer.DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(_Images())
    return path


def _stored_image(path: Path, sample: int) -> Image.Image:
    """An image of a beton, read without FFCV: Pillow decodes its bytes."""
    beton = open_beton(path)
    stored = np.fromfile(path, np.uint8, count=int(beton.sizes[sample]), offset=int(beton.offsets[sample]))
    if beton.modes[sample] == 0:
        return Image.open(io.BytesIO(stored.tobytes())).convert("RGB")
    return Image.fromarray(stored.reshape(beton.heights[sample], beton.widths[sample], 3))


def _train(path: Path, *, rank: int = 0, world_size: int = 1, augment: AugmentConfig | None = None, **data: int) -> Loader:
    config = DataConfig(**{"train": str(path), "resolution": 32, "batch_size": 8, "num_workers": 2, **data})  # type: ignore[arg-type]
    return train_loader(config, augment or AugmentConfig(), seed=3, rank=rank, world_size=world_size, device=CPU)


def _eval(path: Path, rank: int = 0, world_size: int = 1) -> Loader:
    config = DataConfig(val=str(path), resolution=32, eval_batch_size=7, num_workers=1)
    return eval_loader(config, AugmentConfig(), rank=rank, world_size=world_size, device=CPU)


def _hash(loader: Loader) -> str:
    digest = hashlib.sha256()
    for batch in loader:
        for tensor in (batch.images, batch.targets, batch.samples, batch.views):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name == "deit_fast-loader"]
    assert not left


def test_training_views_equal_pillow(beton: Path) -> None:
    plain = AugmentConfig(auto_augment="", erase=0, mixup=None, cutmix=None, label_smoothing=0)
    loader = _train(beton, augment=plain)
    loader.set_epoch(2)
    for batch in loader:
        assert batch.images.shape == (8, 3, 32, 32)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        ids = rng.pack_view_ids(2, batch.samples.numpy(), batch.views.numpy())
        for position, view_id in enumerate(ids):
            image = _stored_image(beton, int(batch.samples[position]))
            plan = crop.random_resized_crop(
                np.uint64(3), view_id, image.height, image.width, plain.crop_scale, plain.crop_ratio, 32
            )
            top, left, height, width = plan[:4]
            view = resized(image.crop((left, top, left + width, top + height)), (32, 32))
            if crop.is_flipped(np.uint64(3), view_id, 0.5):
                view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            want = transforms.functional.normalize(transforms.functional.to_tensor(view), MEAN, STD)
            torch.testing.assert_close(batch.images[position], want, atol=3e-6, rtol=0)
        labels = batch.samples % NUM_CLASSES
        torch.testing.assert_close(batch.targets, torch.nn.functional.one_hot(labels, NUM_CLASSES).float())


def test_evaluation_views_equal_torchvision(beton: Path) -> None:
    reference = transforms.Compose(
        [
            transforms.Lambda(lambda image: with_shorter_side(image, 36)),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    shown: list[list[int]] = []
    for batch in _eval(beton):
        for position, sample in enumerate(batch.samples.tolist()):
            want = reference(_stored_image(beton, sample))
            torch.testing.assert_close(batch.images[position], want, atol=3e-6, rtol=0)
            assert batch.targets[position] == sample % NUM_CLASSES
            shown.append(sample)
    assert sorted(shown) == list(range(NUM_IMAGES))


def test_evaluation_over_three_ranks_shows_each_image_once(jpeg_beton: Path) -> None:
    shown = [sample for rank in range(3) for batch in _eval(jpeg_beton, rank, 3) for sample in batch.samples.tolist()]
    assert sorted(shown) == list(range(NUM_IMAGES))


def test_same_batches_for_any_number_of_threads_and_again(jpeg_beton: Path) -> None:
    loader = _train(jpeg_beton, num_workers=1)
    first = _hash(loader)
    assert first == _hash(loader) == _hash(_train(jpeg_beton, num_workers=2))
    loader.set_epoch(1)
    assert first != _hash(loader)


def test_same_views_for_any_number_of_ranks(jpeg_beton: Path) -> None:
    plain = AugmentConfig(mixup=None, cutmix=None)

    def views(world_size: int) -> dict[tuple[int, int], bytes]:
        shown = {}
        for rank in range(world_size):
            for batch in _train(jpeg_beton, rank=rank, world_size=world_size, augment=plain, batch_size=24 // world_size):
                for position, (sample, view) in enumerate(zip(batch.samples, batch.views, strict=True)):
                    shown[int(sample), int(view)] = batch.images[position].contiguous().numpy().tobytes()
        return shown

    assert views(1) == views(2) == views(3)


def test_resuming_in_an_epoch_goes_on_exactly(jpeg_beton: Path) -> None:
    loader = _train(jpeg_beton)
    whole = [(batch.images.clone(), batch.targets.clone()) for batch in loader]
    loader.set_epoch(0, first_step=4)
    assert len(loader) == len(whole) - 4
    for (images, targets), batch in zip(whole[4:], loader, strict=True):
        assert torch.equal(images, batch.images)
        assert torch.equal(targets, batch.targets)


def test_targets_are_distributions_and_mixing_happens(jpeg_beton: Path) -> None:
    mixed = 0
    for batch in _train(jpeg_beton):
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(8))
        mixed += int((batch.targets.max(1).values < 0.9).any())
    assert mixed > 0


def test_resolution_changes_between_epochs(jpeg_beton: Path) -> None:
    loader = _train(jpeg_beton)
    assert next(iter(loader)).images.shape == (8, 3, 32, 32)
    for resolution in (48, 20, 32):
        loader.set_resolution(resolution)
        assert _hash(loader) == _hash(_train(jpeg_beton, resolution=resolution))


def test_leaving_a_loop_ends_its_thread(jpeg_beton: Path) -> None:
    loader = _train(jpeg_beton)
    for _ in loader:
        break
    assert not any(thread.name == "deit_fast-loader" for thread in threading.enumerate())
    held = iter(loader)
    next(held)
    assert sum(thread.name == "deit_fast-loader" for thread in threading.enumerate()) == 1
    loader.close()
    assert not any(thread.name == "deit_fast-loader" for thread in threading.enumerate())


def test_going_on_with_an_ended_iteration_is_an_error(jpeg_beton: Path) -> None:
    loader = _train(jpeg_beton)
    first = iter(loader)
    next(first)
    second = iter(loader)
    next(second)
    with pytest.raises(RuntimeError, match="was ended"):
        next(first)
    loader.close()
    with pytest.raises(RuntimeError, match="was ended"):
        next(second)


def test_image_that_does_not_decode_is_named(jpeg_beton: Path, tmp_path: Path) -> None:
    beton = open_beton(jpeg_beton)
    content = bytearray(jpeg_beton.read_bytes())
    start = int(beton.offsets[13])
    content[start : start + 40] = bytes(40)
    damaged = tmp_path / "damaged.beton"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=rf"sample 13 \(offset {start}, \d+ bytes\) does not decode: .*write it again"):
        list(_eval(damaged))


def test_exception_in_the_thread_reaches_the_loop(jpeg_beton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = _train(jpeg_beton)

    def fail(*_: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(loader, "make_batch", fail)
    with pytest.raises(RuntimeError, match="made up"):
        list(loader)


def test_a_batch_in_doubt_is_judged_once_the_next_is_queued_and_made_again_without_what_is_damaged(
    jpeg_beton: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a device tells of damage: late, and of the images that are not left to the CPU."""
    expected = [batch.copy() for batch in _train(jpeg_beton)]
    loader, events = _train(jpeg_beton), []
    views = loader.views()
    make, number_of = views.make, {batch.samples.numpy().tobytes(): number for number, batch in enumerate(expected)}

    def made_in_doubt(ids: np.ndarray, slot: Slot, left: np.ndarray = NO_VIEW) -> Made:
        number = number_of[rng.sample_of(ids).astype(np.int64).tobytes()]
        events.append(("made", number, left.tolist()))

        def damaged() -> np.ndarray:
            events.append(("asked", number, left.tolist()))
            return np.arange(len(ids)) == (2 if number == 1 and not len(left) else -1)

        made = make(ids, slot, left)
        if number == 1 and not len(left):
            made.images[:] = 0
        return dataclasses.replace(made, damaged=damaged)

    monkeypatch.setattr(views, "make", made_in_doubt)
    ours = [batch.copy() for batch in loader]
    for mine, other in zip(ours, expected, strict=True):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.samples, other.samples)
    again = [place == 2 for place in range(len(expected[1].samples))]
    assert events[:7] == [
        ("made", 0, []), ("made", 1, []), ("asked", 0, []), ("made", 2, []), ("asked", 1, []), ("made", 1, again),
        ("asked", 1, again),
    ]  # fmt: skip
    assert events[-1] == ("asked", len(expected) - 1, [])


def test_a_batch_that_is_still_in_doubt_comes_before_the_error_of_the_next(
    jpeg_beton: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = _train(jpeg_beton)
    make_batch = loader.make_batch
    made: list[np.ndarray] = []

    def in_doubt_then_fail(ids: np.ndarray, left: np.ndarray = NO_VIEW) -> Made:
        if len(made) == 2:
            raise RuntimeError("made up")
        made.append(ids)
        return dataclasses.replace(make_batch(ids, left), damaged=lambda: np.zeros(len(ids), bool))

    monkeypatch.setattr(loader, "make_batch", in_doubt_then_fail)
    shown: list[list[int]] = []
    with pytest.raises(RuntimeError, match="made up"):
        shown.extend(batch.samples.tolist() for batch in loader)
    assert shown == [rng.sample_of(ids).tolist() for ids in made]


def test_pytorchs_threads_are_left_alone(jpeg_beton: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(_train(jpeg_beton, num_workers=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_more_threads_than_cores_is_an_error(jpeg_beton: Path) -> None:
    with pytest.raises(UserError, match=r"data\.num_workers=9999: want at most the \d+ cores"):
        _train(jpeg_beton, num_workers=9999)


@pytest.mark.slow
def test_a_stock_loader_makes_the_same_batches(jpeg_beton: Path) -> None:
    """All of the recipe, mixing too, by FFCV's own loader. It hands out sample numbers, which are view 0 of epoch 0."""
    recipe = AugmentConfig(repeats=1, mix_mode="elem", erase=0.5, color_jitter=0.2)
    wanted = [
        (batch.images.clone(), batch.targets.clone(), batch.samples.clone()) for batch in _train(jpeg_beton, augment=recipe)
    ]
    pipelines = {
        "image": [
            ffcv_ops.DecodeTrainViews(str(jpeg_beton), 32, 3, recipe),
            ffcv_ops.AugmentViews(recipe, 3),
            ffcv_ops.Finish(recipe, 3),
            ffcv.transforms.ToTensor(),
        ],
        "label": [ffcv_ops.Label(), ffcv_ops.SoftTargets(NUM_CLASSES, 32, recipe, 3), ffcv.transforms.ToTensor()],
    }
    order = np.concatenate([samples.numpy() for _, _, samples in wanted]).astype(np.uint64)
    stock = ffcv.loader.Loader(
        str(jpeg_beton), batch_size=8, num_workers=2, order=ffcv.loader.OrderOption.SEQUENTIAL, indices=order,
        pipelines=pipelines, drop_last=False,
    )  # fmt: skip
    num_batches = 0
    for (images, targets), (our_images, our_targets, _) in zip(stock, wanted, strict=True):
        torch.testing.assert_close(images.permute(0, 3, 1, 2), our_images, atol=1e-6, rtol=0)
        torch.testing.assert_close(targets, our_targets, atol=1e-6, rtol=0)
        assert (targets.max(1).values < 0.9).any()  # mixed
        num_batches += 1
    assert num_batches == NUM_IMAGES // 8
