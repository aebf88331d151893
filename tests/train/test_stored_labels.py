"""Runs that learn from stored answers: as with the teacher there, mixed as the images are, and of no other run's views."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deit_fast.config import RankError, RunConfig, UserError
from deit_fast.labels.file import Header, LabelsFile, LabelsWriter
from deit_fast.plan.training import train
from deit_fast.teach import teach
from deit_fast.train.dist import World
from deit_fast.train.stage_sets import train_set_digests
from deit_fast.train.stored_labels import StoredLabels, belongings, tempered
from deit_fast.train.trainer import Trainer
from tests.teach.teachers import STUDENT, taught_by, teacher_weights, without_teacher
from tests.tiny_runs import TINY, MakeRun
from tests.train.sessions import Session

SUBSET = 5 * 32 + 9


@pytest.fixture
def config(tiny_run: MakeRun, tmp_path: Path) -> RunConfig:
    """Three epochs of five steps with a distillation token, mixing, repeats, and a teacher."""
    return tiny_run(**{
        **taught_by(teacher_weights(tmp_path)), "model.name": STUDENT, "distil.kind": "hard", "data.batch_size": 32,
        "data.subset": SUBSET, "augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.repeats": 3, "augment.erase": 0.25,
        "model.drop_path": 0.2, "train.epochs": 3, "teach.out": str(tmp_path / "labels.dfl"), "run.dir": str(tmp_path / "run"),
    })  # fmt: skip


def _in(config: RunConfig, name: str) -> RunConfig:
    return config.changed({"run.dir": str(Path(config.run.dir).with_name(name))})


def _trainer(config: RunConfig) -> Trainer:
    return Trainer(config, World(0, 1, torch.device("cpu")))


@pytest.mark.parametrize("accumulate", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_weights_are_those_that_the_teacher_itself_gives(config: RunConfig, accumulate: int) -> None:
    config = config.changed({"train.accumulate": accumulate})
    teach(config)
    assert len(np.unique(LabelsFile(config.teach.out).read(0, 0, 160)["classes"])) > 3
    live = train(_in(config, "live"), [])
    stored = train(without_teacher(config, Path(config.teach.out)), [])
    assert stored["weights_sha256"] == live["weights_sha256"]
    alone = train(_in(config.changed({"distil.kind": "off", "distil.teacher_weights": ""}), "alone"), [])
    assert alone["weights_sha256"] != live["weights_sha256"]


def test_also_after_a_resume_in_mid_epoch(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    teach(config)
    live = train(_in(config, "live"), [])
    again = without_teacher(config, Path(config.teach.out), **{"train.resume": True, "train.checkpoint_steps": 2})
    train_on, calls = Trainer.train_on, iter(range(1, 100))

    def ending(trainer: Trainer, *place: Any) -> None:
        train_on(trainer, *place)
        if next(calls) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_on", ending)
        with pytest.raises(KeyboardInterrupt):
            train(again, [])
    assert train(again, [])["weights_sha256"] == live["weights_sha256"]


@pytest.mark.slow
def test_and_on_two_ranks(config: RunConfig, tmp_path: Path) -> None:
    """One rank has taught; two learn, in batches of the same size."""
    teach(config)
    words = [
        "train", f"--data.train={config.data.train}", f"--data.val={config.data.val}", "--data.batch_size=32",
        f"--data.subset={SUBSET}", "--data.resolution=32", "--data.num_workers=1", "--augment.flip=0",
        f"--model.name={STUDENT}", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2", "--model.drop_path=0.2",
        "--schedule.warmup_epochs=1", "--train.epochs=3", "--train.device=cpu", "--distil.kind=hard",
    ]  # fmt: skip
    teacher = [
        f"--distil.teacher_weights={config.distil.teacher_weights}", "--distil.teacher=deit_tiny_patch16_224",
        "--distil.teacher_options=patch_size=8,embed_dim=16,depth=1,num_heads=1",
    ]  # fmt: skip
    for name, given in (("two", teacher), ("stored", [f"--distil.labels={config.teach.out}"])):
        session = Session([*words, *given, f"--run.dir={tmp_path / name}"], tmp_path / "stderr", num_ranks=2)
        assert session.wait() == 0, session.stderr
    summaries = [(tmp_path / name / "summary.json").read_text() for name in ("two", "stored")]
    digests = [text.partition("weights_sha256")[2][:80] for text in summaries]
    assert digests[0] == digests[1] != ""


def _true_labels(config: RunConfig, of: str, **changes: Any) -> RunConfig:
    """The run with a file in which every answer is the label of the view, from a teacher that knows all."""
    trainer = _trainer(config.changed({"distil.kind": "off", "distil.teacher_weights": ""}))
    order, beton = trainer.train_loader.order, trainer.train_loader.beton
    header = Header(
        of=of, top=1, num_classes=10, num_epochs=3, num_positions=SUBSET, block_size=64, teachers=[],  # type: ignore[arg-type]
        belongs=belongings(config, train_set_digests(config, beton, {}), of),
    )  # fmt: skip
    writer = LabelsWriter(config.teach.out, header)
    for epoch, blocks in enumerate(writer.missing()):
        shown = beton.labels[order.stream(epoch)[np.arange(SUBSET) // config.augment.repeats]]  # type: ignore[union-attr]
        for block in blocks:
            positions = header.positions(block)
            entries = np.empty(len(positions), header.entry)
            entries["classes"][:, 0] = shown[positions.start : positions.stop]
            writer.write(epoch, block, entries)
    writer.finish()
    trainer.close()
    return without_teacher(config, Path(config.teach.out), **changes)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("size", [32, 20])
def test_answers_before_mixing_are_mixed_as_the_labels_are(config: RunConfig, mode: str, size: int) -> None:
    """Where the teacher says the label of each view, its mixed answers are the loader's own targets."""
    changes = {"augment.mix_mode": mode, "data.batch_size": size, "augment.label_smoothing": 0.0}
    trainer = _trainer(_true_labels(config, "views", **changes))
    assert trainer._stored is not None
    for step, batch in enumerate(trainer.batches(1)):
        answers = trainer._stored.answers(batch, 1, step)
        torch.testing.assert_close(answers, batch.targets, rtol=0, atol=1e-6)
    assert step == SUBSET // size - 1
    trainer.close()


@pytest.mark.parametrize("shrink", ["resample", "frequency"])
def test_and_as_in_the_stage_of_their_epoch(config: RunConfig, shrink: str) -> None:
    stages = ({"data.resolution": 16, "augment.mixup": None}, {"augment.cutmix": None}, {"augment.mix_mode": "elem"})
    changes = {
        "schedule.stages": tuple({"epochs": 1, **stage} for stage in stages), "data.shrink": shrink,
        "model.options": {**TINY, "dynamic_img_size": True}, "augment.label_smoothing": 0.0,
    }  # fmt: skip
    trainer = _trainer(_true_labels(config.changed(changes), "views"))
    assert trainer._stored is not None
    for epoch in range(3):
        for step, batch in enumerate(trainer.batches(epoch)):
            torch.testing.assert_close(trainer._stored.answers(batch, epoch, step), batch.targets, rtol=0, atol=1e-6)
    trainer.close()


def test_a_run_of_more_epochs_shows_the_labelled_views_again(config: RunConfig) -> None:
    teach(config.changed({"teach.epochs": 2}))
    trainer = _trainer(without_teacher(config, Path(config.teach.out)))
    assert "again from epoch 3 on" in trainer.remarks[-1]
    assert trainer._stored is not None
    first, third = (next(iter(trainer.batches(epoch))) for epoch in (0, 2))
    assert torch.equal(first.images, third.images)
    assert torch.equal(trainer._stored.answers(first, 0, 0), trainer._stored.answers(third, 2, 0))
    assert trainer.samples_of_step(2, 1) == trainer.samples_of_step(0, 1)
    trainer.close()


# half precision ends at 6e-8, which a temperature of 3 makes 4e-3 of the likeliest class
@pytest.mark.parametrize(("tau", "of", "within"), [(1.0, "mixed", 1e-3), (3.0, "mixed", 2e-2), (1.0, "views", 1e-3)])
def test_soft_answers_with_all_classes_are_the_teachers_to_half_precision(
    config: RunConfig, tau: float, of: str, within: float
) -> None:
    mixing = {"augment.mix_probability": 0.0} if of == "views" else {}
    config = config.changed({"distil.kind": "soft", "distil.tau": tau, "teach.top": 10, "teach.of": of, **mixing})
    teach(config)
    live, stored = _trainer(config), _trainer(without_teacher(config, Path(config.teach.out)))
    assert live.teacher is not None and stored._stored is not None
    for step, batch in enumerate(live.batches(1)):
        wanted = (live.teacher(batch.images) / tau).softmax(1)
        found = (stored._stored.answers(batch, 1, step) / tau).softmax(1)
        torch.testing.assert_close(found, wanted, rtol=0, atol=within)
    live.close()
    stored.close()


def test_what_the_top_classes_leave_is_spread_over_the_others() -> None:
    """Worked by hand: 0.5 and 0.3 of four classes leave 0.1 each; at temperature 2 their square roots, over their sum."""
    found = tempered(torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.3]]), 4, tau=1.0)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.1, 0.5, 0.1]]))
    roots = np.sqrt([0.3, 0.1, 0.5, 0.1])
    found = tempered(torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.3]]), 4, tau=2.0)
    np.testing.assert_allclose(found.numpy()[0], roots / roots.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.seed": 1}, r"belongs to data\.seed=0, this run has data\.seed=1"),
        ({"augment.erase": 0.5}, r"belongs to augment\.erase=0\.25, this run has augment\.erase=0\.5"),
        (
            {"augment.crop_scale": (0.2, 1.0)},
            r"belongs to augment\.crop_scale=\(0\.08, 1\.0\), this run has augment\.crop_scale=\(0\.2, 1\.0\)",
        ),
        ({"data.batch_size": 16}, r"belongs to data\.batch_size=32, this run has data\.batch_size=16"),
        ({"augment.mixup": 0.2}, r"belongs to augment\.mixup=0\.8, this run has augment\.mixup=0\.2"),
        ({"data.order": "pages"}, r"belongs to data\.order=random, this run has data\.order=pages"),
        ({"data.start_resolution": 24}, r"this run has data\.start_resolution=24"),
        ({"data.subset": None}, r"belongs to data\.subset=169, this run has data\.subset="),
        ({"distil.kind": "soft"}, r"holds no probabilities, which distil\.kind=soft needs"),
        ({"distil.kind": "off"}, r"distil\.kind=off uses no teacher; want distil\.kind=hard or soft"),
    ],
)
def test_labels_of_other_views_are_refused_by_the_field_that_differs(
    config: RunConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(_true_labels(config, "mixed", **changes), [])


def test_labels_of_another_set_are_refused(config: RunConfig) -> None:
    with pytest.raises(UserError, match=r"belongs to other (labels|images) of the training set"):
        train(_true_labels(config, "views", **{"data.train": config.data.val}), [])


def test_digests_of_the_set_are_put_into_words(config: RunConfig) -> None:
    run = _true_labels(config.changed({"data.order": "pages"}), "views")
    belongs = LabelsFile(run.distil.labels).header.belongs
    own = {what: belongs[f"data.train: {what}"] for what in ("labels", "images", "order")}
    copied = "files one by one in the first epoch"
    for what, ours, message in (
        ("order", copied, f"belongs to an order by pages of all files, this run has an order by pages of {copied}; want"),
        (
            "images",
            "3" * 64,
            rf"belongs to other images of .* \({own['images'][:12]}\), this run has other .* \(3{{12}}\); want",
        ),
        (
            "images of stage 1",
            "3" * 64,
            r"belongs to the training set's own images in that stage, this run has other images of",
        ),
    ):
        with pytest.raises(UserError, match=message):
            StoredLabels(run, {**own, what: ours}, 10, World(0, 1, torch.device("cpu")))


@pytest.mark.parametrize(
    "changes",
    [
        {"train.seed": 1, "data.seed": 0},
        {"augment.label_smoothing": 0.0},
        {"optim.lr": 1e-3},
        {"model.drop_path": 0.0},
        {"data.eval_resolution": 32},
    ],
)
def test_what_the_teacher_does_not_see_may_be_another(config: RunConfig, changes: dict[str, Any]) -> None:
    _trainer(_true_labels(config, "mixed", **changes)).close()


def test_the_teacher_that_is_named_must_be_the_one_that_answered(config: RunConfig, tmp_path: Path) -> None:
    teach(config)
    both = config.changed({"distil.labels": config.teach.out})
    trainer = _trainer(both)
    assert trainer.teacher is None
    trainer.close()
    other = both.changed(taught_by(teacher_weights(tmp_path, seed=2)))
    with pytest.raises(
        UserError, match=r"holds the answers of deit_tiny_patch16_224 \w{12}; distil\.teacher_weights=.*teacher-2"
    ):
        _trainer(other)


def test_a_flipped_byte_ends_the_run_with_its_place(config: RunConfig) -> None:
    run = _true_labels(config, "mixed")
    content = bytearray(Path(config.teach.out).read_bytes())
    content[-3] ^= 1
    Path(config.teach.out).write_bytes(content)
    with pytest.raises(RankError, match=r"labels\.dfl: damaged in epoch 3, views 128 to 168; want another copy"):
        train(run, [])


def test_a_run_goes_on_with_its_own_labels_alone(config: RunConfig, tmp_path: Path) -> None:
    run = _true_labels(config, "mixed")
    train(run.changed({"train.epochs": 3}), [])
    teach(dataclasses.replace(config, teach=dataclasses.replace(config.teach, out=str(tmp_path / "other.dfl"))))
    again = run.changed({"train.resume": True, "distil.labels": str(tmp_path / "other.dfl")})
    with pytest.raises(UserError, match=r"^distil\.labels=.*other\.dfl: holds other answers than the run of checkpoint"):
        train(again, [])
