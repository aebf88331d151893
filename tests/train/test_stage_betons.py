"""Stages with betons of their own: their views, what is open, and what a run is held against when it goes on."""

from __future__ import annotations

import pickle
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deit_fast.config import RunConfig, UserError, check_training, config_of_stage
from deit_fast.data.load.loader import train_loader
from deit_fast.kernels import crop
from deit_fast.plan.training import train
from deit_fast.teach import teach
from deit_fast.train.dist import World
from deit_fast.train.trainer import Trainer
from tests.data.image_folders import convert
from tests.teach.teachers import ARCHITECTURE, STUDENT, taught_by, teacher_weights, without_teacher
from tests.tiny_runs import TINY, MakeRun, digits_in, events_of
from tests.train.sessions import Session

CPU = torch.device("cpu")
ONE = World(0, 1, CPU)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits of training at half their side, as one beton, small.beton, and as two."""
    source = digits_in(tmp_path_factory.getbasetemp()) / "train"
    folder = tmp_path_factory.mktemp("small")
    convert(source, folder / "small.beton", max_resolution=16)
    convert(source, folder / "part.beton", max_resolution=16, shards=2)
    return folder


def _stages(beton: Path | str, **first: Any) -> tuple[dict[str, Any], ...]:
    return ({"epochs": 2, "data.train": str(beton), "data.resolution": 16, **first}, {"epochs": 1, "augment.erase": 0.0})


def _run(make: MakeRun, folder: Path, beton: Path | str, **changes: Any) -> RunConfig:
    options = {"model.options": {**TINY, "dynamic_img_size": True}, "data.batch_size": 32, "data.subset": 160}
    stages = {"schedule.stages": _stages(beton), "train.epochs": 3, "augment.flip": 0.5, "run.dir": str(folder)}
    return make(**{**options, **stages, **changes})


def _mapped() -> set[str]:
    """Files that this process has mapped or open."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    opened = {str(path.resolve()) for path in Path("/proc/self/fd").iterdir()}
    return opened | {line.split(maxsplit=5)[5] for line in lines if line.count("/")}


@pytest.mark.parametrize("order", ["random", "pages"])
def test_views_of_a_stage_are_those_of_its_beton(tiny_run: MakeRun, small: Path, tmp_path: Path, order: str) -> None:
    for names in ("small.beton", "part-*-of-00002.beton"):
        config = _run(tiny_run, tmp_path / "run", small / names, **{"data.order": order})
        trainer = Trainer(config, ONE)
        for epoch, first_step, number in ((0, 0, 0), (1, 2, 0), (2, 0, 1), (1, 3, 0)):
            own = config_of_stage(config, config.schedule.stages[number])
            loader = train_loader(own.data, own.augment, seed=0, rank=0, world_size=1, device=CPU)
            loader.set_epoch(epoch, first_step)
            shown = list(zip(trainer.batches(epoch, first_step), loader, strict=True))
            assert len(shown) == 5 - first_step
            for batch, wanted in shown:
                assert torch.equal(batch.images, wanted.images)
                assert torch.equal(batch.targets, wanted.targets)
            assert trainer.samples_of_step(epoch, 4) == wanted.samples.tolist()
            loader.close()
        trainer.close()


def test_a_copied_loader_shows_the_set_of_the_stage(tiny_run: MakeRun, small: Path, tmp_path: Path) -> None:
    trainer = Trainer(_run(tiny_run, tmp_path / "run", small / "small.beton"), ONE)
    batches = [batch.images.clone() for batch in trainer.batches(1)]
    copied = pickle.loads(pickle.dumps(trainer.train_loader))
    assert copied.beton.name == str(small / "small.beton")
    assert all(torch.equal(batch.images, wanted) for batch, wanted in zip(copied, batches, strict=True))
    copied.close()
    trainer.close()


def test_random_draws_of_a_sample_do_not_depend_on_the_beton(tiny_run: MakeRun, small: Path, tmp_path: Path) -> None:
    """The same samples, shares and partners of mixing; views that look alike, since box, flip and operations are the same."""
    config = _run(tiny_run, tmp_path / "run", small / "small.beton", **{"data.dtype": "float32", "augment.repeats": 2})
    plain = config.changed({"schedule.stages": tuple({**stage, "data.train": config.data.train} for stage in
                                                     config.schedule.stages)})  # fmt: skip
    both = Trainer(config, ONE), Trainer(plain, ONE)
    for small_batch, batch in zip(*(trainer.batches(1) for trainer in both), strict=True):
        for name in ("samples", "views", "targets"):
            assert torch.equal(getattr(small_batch, name), getattr(batch, name))
        difference = (small_batch.images - batch.images).abs().mean()
        assert difference < 0.35 * (small_batch.images - batch.images.roll(1, 0)).abs().mean()
    for trainer in both:
        trainer.close()


def test_boxes_are_the_same_parts_of_an_image_of_any_size() -> None:
    """To 1.5 pixels of the smaller image, of 1,000 views, but for a few whose box fits one of them at another try."""
    how = crop.cropping(crop.RANDOM, flip=0.5, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    ids, ones = np.arange(1000, dtype=np.uint64), np.ones(1000, np.uint16)
    plans = []
    for height, width in ((192, 256), (375, 500)):
        plan = np.empty((1000, crop.PLAN_LENGTH), np.int64)
        crop.plan_views(np.uint64(5), ids, how, height * ones, width * ones, 96, plan)
        plans.append(plan)
    boxes = [plan[:, :4] / np.array([height, width, height, width]) for plan, height, width in
             zip(plans, (192, 375), (256, 500), strict=True)]  # fmt: skip
    np.testing.assert_array_equal(plans[0][:, 8], plans[1][:, 8])
    off = np.abs(boxes[0] - boxes[1]).max(1) > 1.5 / 192
    assert off.sum() <= 10


def test_what_no_later_epoch_shows_is_let_go(tiny_run: MakeRun, small: Path, tmp_path: Path) -> None:
    config = _run(tiny_run, tmp_path / "run", small / "small.beton")
    name = str(small / "small.beton")
    threads = threading.active_count()
    trainer = Trainer(config, ONE)
    for epoch, is_mapped in ((0, True), (1, True), (2, False)):
        for _ in trainer.batches(epoch):
            assert (name in _mapped()) == is_mapped
    trainer.close()
    assert threading.active_count() == threads
    assert trainer.train_loader.activity.num_batches == 15  # of all stages together


def test_another_set_is_refused_before_the_run(tiny_run: MakeRun, digits: Path, tmp_path: Path) -> None:
    config = _run(tiny_run, tmp_path / "run", digits / "val.beton")
    with pytest.raises(UserError, match=r"^schedule\.stages: stage 1: \S*val\.beton: has \d+ images, and"):
        train(config, [])
    for name, message in (("none.beton", "no such file"), ("none*.beton", "no file")):
        place = rf"{re.escape(str(tmp_path / name))}: {message}"
        with pytest.raises(UserError, match=rf"^schedule\.stages: stage 1: (data\.train=)?{place}"):
            train(_run(tiny_run, tmp_path / "run", tmp_path / name), [])
    with pytest.raises(UserError, match=r"schedule\.stages: stage 1: data\.train is empty"):
        check_training(_run(tiny_run, tmp_path / "run", ""), 1)
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "pages"])
def test_a_run_goes_on_exactly_within_a_stage_and_across_its_end(
    tiny_run: MakeRun, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Killed after 8 and after 10 of 15 steps, of which the first 10 show the small beton; with the beton moved in between."""
    changes: dict[str, Any] = {"data.order": order}
    whole = train(_run(tiny_run, tmp_path / "whole", small / "small.beton", **changes), [])
    (start,) = events_of(tmp_path / "whole", "start")
    assert [one["path"] for one in start["datasets"]["train"]["stages"]["1"]] == [str(small / "small.beton")]
    moved = tmp_path / "moved.beton"
    for suffix in ("", ".json"):
        (tmp_path / f"moved.beton{suffix}").symlink_to(small / f"small.beton{suffix}")
    changes |= {"train.resume": True, "train.checkpoint_steps": 2}
    parts = _run(tiny_run, tmp_path / "parts", small / "small.beton", **changes)
    train_on = Trainer.train_on
    for num_steps, config in ((8, parts), (2, _run(tiny_run, tmp_path / "parts", moved, **changes))):
        calls = iter(range(1, 100))

        def ending(trainer: Trainer, *place: Any) -> None:
            train_on(trainer, *place)
            if next(calls) == num_steps + 1:  # noqa: B023
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_on", ending)
            with pytest.raises(KeyboardInterrupt):
                train(config, [])
    convert(tmp_path.parent / "digits" / "train", tmp_path / "other.beton", max_resolution=16, jpeg_quality=80)
    for text in (tmp_path / "other.beton", parts.data.train):
        with pytest.raises(UserError, match=r"schedule\.stages: stage 1: holds other images than the run of checkpoint"):
            train(_run(tiny_run, tmp_path / "parts", text, **changes), [])
    assert train(parts, [])["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.slow
def test_two_ranks_are_one_with_the_doubled_batch(tiny_run: MakeRun, small: Path, tmp_path: Path) -> None:
    digits = Path(tiny_run().data.train).parent
    stages = f"[{{epochs: 1, data.train: {small}/small.beton, data.resolution: 16}}, {{epochs: 1}}]"

    def session(name: str, batch_size: int, num_ranks: int) -> Session:
        words = [
            "train", f"--data.train={digits}/train.beton", f"--data.val={digits}/val.beton", f"--run.dir={tmp_path / name}",
            f"--data.batch_size={batch_size}", "--data.resolution=32", "--data.num_workers=1", "--train.device=cpu",
            "--model.name=deit_tiny_patch16_224", "--train.ema_decay=0.9", "--schedule.warmup_epochs=1", "--train.epochs=2",
            "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2,dynamic_img_size=true", "--train.log_every=1",
            "--augment.mixup=off", "--augment.cutmix=off", "--model.drop_path=0", f"--schedule.stages={stages}",
        ]  # fmt: skip
        return Session(words, tmp_path / f"{name}.txt", num_ranks)

    one, two = session("one", 64, 1), session("two", 32, 2)
    assert (one.wait(), two.wait()) == (0, 0), one.stderr + two.stderr
    losses = [[event["loss"] for event in events_of(tmp_path / name, "step")] for name in ("one", "two")]
    assert len(losses[0]) > 40
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.slow
def test_stored_labels_belong_to_the_betons_of_stages(tiny_run: MakeRun, small: Path, tmp_path: Path) -> None:
    """They are the teacher's answers to the views of each stage, wherever its beton lies, and of no other beton."""
    config = _run(tiny_run, tmp_path / "run", small / "small.beton", **{
        **taught_by(teacher_weights(tmp_path)), "model.name": STUDENT, "distil.kind": "hard",
        "distil.teacher_options": ARCHITECTURE, "teach.out": str(tmp_path / "labels.dfl"),
    })  # fmt: skip
    teach(config)
    stored = without_teacher(config, tmp_path / "labels.dfl")
    shards = _stages(small / "part-*-of-00002.beton")
    live = train(config.changed({"run.dir": str(tmp_path / "live")}), [])
    assert train(stored.changed({"schedule.stages": shards}), [])["weights_sha256"] == live["weights_sha256"]
    without = stored.changed({"schedule.stages": _stages(config.data.train), "run.dir": str(tmp_path / "without")})
    message = r"belongs to other images of stage 1 of the training set \(\w+\), this run has the training set's own images in"
    with pytest.raises(UserError, match=message):
        train(without, [])
