"""A batch that somebody still holds, in whatever form, is not written to; memory of batches that nobody holds is used again."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import Batch, Loader, eval_loader, train_loader
from deit_fast.data.load.slots import Slots
from tests.data.image_folders import convert, make_images

CPU = torch.device("cpu")
NUM_STEPS, SLOTS = 12, 3  # an epoch has four times as many batches as there are slots


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 48, "bee": 24, "cow": 24}, height=40, width=50), out)
    return out


def _loader(beton: Path, kind: str, dtype: str = "float32") -> Loader:
    paths = {"train": str(beton), "val": str(beton)}
    config = DataConfig(**paths, batch_size=8, eval_batch_size=8, resolution=16, num_workers=2, batches_ahead=1, dtype=dtype)  # type: ignore[arg-type]
    if kind == "eval":
        return eval_loader(config, AugmentConfig(), rank=0, world_size=1, device=CPU)
    return train_loader(config, AugmentConfig(), seed=3, rank=0, world_size=1, device=CPU)


def _copies(loader: Loader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch, each copied before the next is asked for."""
    return [(batch.images.clone(), batch.targets.clone()) for batch in loader]


@pytest.mark.parametrize(
    ("kind", "dtype"), [("train", "float32"), ("train", "bfloat16"), ("eval", "float32"), ("eval", "uint8")]
)
def test_a_list_of_batches_is_what_a_loop_shows(beton: Path, kind: str, dtype: str) -> None:
    loader = _loader(beton, kind, dtype)
    want = _copies(loader)
    assert len(want) == NUM_STEPS
    assert len({images.float().sum().item() for images, _ in want}) == NUM_STEPS
    held = list(loader)
    list(loader)  # another epoch while they are held
    for batch, (images, targets) in zip(held, want, strict=True):
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.targets, targets)


def _saved_by_autograd(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights, a sum whose gradient by them needs the images)."""
    weights = torch.ones(3, requires_grad=True)
    return weights, (batch.images * weights[:, None, None]).sum()


FORMS: dict[str, Callable[[Batch], object]] = {
    "images": lambda batch: batch.images,
    "targets": lambda batch: batch.targets,
    "a view of a slice": lambda batch: batch.images[2:5].permute(0, 2, 3, 1)[..., 1],
    "one image": lambda batch: batch.images[7],
    "detached": lambda batch: batch.images.detach(),
    "an array": lambda batch: batch.images.numpy(),
    "a slice of an array": lambda batch: batch.images.numpy()[3, :, ::2].T,
    "a row of targets as an array": lambda batch: batch.targets.numpy()[4],
    "a buffer": lambda batch: batch.images.numpy().data,
    "through DLPack": lambda batch: torch.utils.dlpack.from_dlpack(batch.images),
    "an array through DLPack": lambda batch: np.from_dlpack(batch.images),
    "a storage": lambda batch: batch.images.untyped_storage(),
    "what autograd saved": _saved_by_autograd,
}


def _digest(held: object) -> str:
    """Of the numbers in one of the forms."""
    if isinstance(held, tuple):
        weights, total = held
        held = torch.autograd.grad(total, weights)[0]
    if isinstance(held, torch.UntypedStorage):
        held = torch.empty(0, dtype=torch.uint8).set_(held)
    return hashlib.sha256(np.asarray(held).tobytes()).hexdigest()


@pytest.mark.parametrize("form", FORMS)
def test_whatever_shares_the_memory_of_a_batch_keeps_it(beton: Path, form: str) -> None:
    loader = _loader(beton, "train")
    copies = (Batch(batch.images.clone(), batch.targets.clone(), batch.samples, batch.views) for batch in loader)
    want = [_digest(FORMS[form](batch)) for batch in copies]
    assert len(set(want)) > SLOTS + 1  # targets may be alike
    held = [FORMS[form](batch) for batch in loader]
    list(loader)
    assert [_digest(one) for one in held] == want


def test_an_ordinary_loop_uses_its_memory_again(beton: Path) -> None:
    loader = _loader(beton, "train")
    addresses = set()
    for epoch in range(20):
        loader.set_epoch(epoch)
        for batch in loader:
            addresses.add(batch.images.data_ptr())
    assert len(addresses) < 20 * NUM_STEPS / 4  # a thread that the machine lets wait may cost a piece now and then
    assert loader.num_pieces == (SLOTS, SLOTS)


def test_memory_of_batches_that_were_held_goes_when_they_go(beton: Path) -> None:
    loader = _loader(beton, "train")
    held = list(loader)
    assert len({batch.images.data_ptr() for batch in held}) == NUM_STEPS
    assert loader.num_pieces == (SLOTS, SLOTS)  # all others are the batches' own now
    first = held[0].images.clone()
    kept = held[0]
    del held
    list(loader)
    assert loader.num_pieces == (SLOTS, SLOTS)
    del loader  # a batch outlives its loader
    gc.collect()
    assert torch.equal(kept.images, first)


def test_slots_lend_no_piece_twice() -> None:
    slots = Slots((4, 5), np.dtype("<f4"), 2, pinned=False)
    held = [slots.take() for _ in range(6)]
    assert len({array.ctypes.data for array in held}) == slots.num_pieces == 6
    part = held[5][1:3].reshape(-1)[2:]
    address = held[5].ctypes.data
    del held
    assert all(slots.take().ctypes.data != address for _ in range(8))
    assert slots.num_pieces == 2
    del part
    assert address in {slots.take().ctypes.data for _ in range(8)} or slots.num_pieces == 2
    slots.rest()
    assert slots.num_pieces == 2


def test_slots_begin_with_a_line_of_the_cache() -> None:
    for shape in ((3, 5), (2, 224, 224, 3), (7,)):
        slots = Slots(shape, np.dtype("<f4"), 2, pinned=False)
        assert all(slots.take().ctypes.data % 64 == 0 for _ in range(3))


def test_one_more_that_is_held_costs_one_piece_and_no_more() -> None:
    slots = Slots((4, 5), np.dtype("<f4"), 2, pinned=False)
    made, new = 0, slots._new

    def counted() -> np.ndarray:
        nonlocal made
        made += 1
        return new()

    slots._new = counted  # type: ignore[method-assign]
    held = [slots.take() for _ in range(3)]
    for _ in range(20):  # a consumer that always holds one more than there are pieces for
        held = [*held[1:], slots.take()]
    assert made <= 2
    assert slots.num_pieces <= 4


def test_letting_go_of_a_batch_runs_no_python(beton: Path) -> None:
    """A KeyboardInterrupt in a finalizer would be printed and forgotten, and the run would go on."""
    slots = Slots((4, 5), np.dtype("<f4"), 2, pinned=False)
    lent, batch = slots.take(), next(iter(_loader(beton, "train")))
    called: list[str] = []
    sys.setprofile(lambda frame, event, argument: called.append(f"{event} {frame.f_code.co_qualname}"))
    try:
        del lent, batch
    finally:
        sys.setprofile(None)
    assert [call for call in called if call.startswith("call ")] == []


def test_pieces_that_are_lent_at_rest_go_with_their_batches() -> None:
    slots = Slots((4, 5), np.dtype("<f4"), 2, pinned=False)
    held = [slots.take() for _ in range(5)]
    held[0][:] = 7.0
    slots.rest()
    assert slots.num_pieces == 2
    lent = [slots.take() for _ in range(4)]
    for array in lent:
        array[:] = 1.0
    assert (held[0] == 7.0).all()
    del held
    assert all(slots.take().ctypes.data not in {array.ctypes.data for array in lent} for _ in range(4))


class _Event:
    """Stands in for a CUDA event."""

    waited = 0

    def synchronize(self) -> None:
        self.waited += 1


def test_memory_that_a_gpu_copies_from_is_waited_for() -> None:
    slots = Slots((4, 5), np.dtype("<f4"), 2, pinned=False)
    first, second = slots.take(), slots.take()
    events = _Event(), _Event()
    for lent, event in zip((first, second), events, strict=True):
        slots.read_until(lent[:3], event)  # type: ignore[arg-type]
    address = first.ctypes.data
    del first, lent
    assert events[0].waited == 0
    assert slots.take().ctypes.data == address
    assert [event.waited for event in events] == [1, 0]
    slots.rest()
    assert [event.waited for event in events] == [1, 1]


def test_a_batch_is_made_without_an_iteration(beton: Path) -> None:
    loader, other = _loader(beton, "train"), _loader(beton, "train")
    made = loader.make_batch(loader.order.batches(0)[0])
    assert np.array_equal(np.asarray(made.images), next(iter(other)).images.permute(0, 2, 3, 1).numpy())
