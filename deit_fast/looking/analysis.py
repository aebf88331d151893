"""The command `analyse`: what a trained model has learned, as a page."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    DistilConfig,
    RunConfig,
    SourceConfig,
    UserError,
    WriteConfig,
    eval_augment,
    eval_resolution,
)
from deit_fast.data.convert.write import write_beton
from deit_fast.data.load.decode import Images, images_of, open_images
from deit_fast.data.load.loader import Loader, eval_loader
from deit_fast.data.load.views import Recipe
from deit_fast.kernels import rng
from deit_fast.looking.analysis_sections import sections_of
from deit_fast.looking.attention import AttentionMaps, attention_maps
from deit_fast.looking.findings import Findings, as_result
from deit_fast.looking.outcomes import calibration, outcomes_of
from deit_fast.looking.pixels import as_levels
from deit_fast.looking.tokens import TokenSimilarity
from deit_fast.looking.view_maker import make_views
from deit_fast.model.memory_format import to_channels_last
from deit_fast.output import silent
from deit_fast.record.runs import load_run
from deit_fast.report.html import write_file
from deit_fast.report.sections import page_of_sections
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.evaluate import labels_of
from deit_fast.train.step import resolve_amp
from deit_fast.train.teacher import Teacher, create_teacher
from deit_fast.train.trained import Trained, read_trained


@dataclass(frozen=True)
class _Subject:
    """What is analysed: a file of weights; its page; the command's configuration, completed from the run's; and remarks."""

    weights: Path
    html: Path
    config: RunConfig
    remarks: list[str]


def analyse(config: RunConfig) -> dict[str, Any]:
    """Writes the page about analyse.run and gives all its numbers.

    The validation set and the teacher are those of the run, unless data.val and distil.teacher_weights say otherwise. Raises
    UserError where something is missing or does not fit, as `eval` does, and under torchrun: one process does all.
    """
    if world_size_of_environment() > 1:
        raise UserError("analyse runs in one process: start it without torchrun")
    subject = _subject(config)
    config = subject.config
    trained = read_trained(config, str(subject.weights))
    data, augment = trained.view.changed(config.data).shown_by(config.data, config.augment)
    data, augment = replace(data, decode="cpu"), eval_augment(augment, "cpu")
    with joined_world(config.train.device) as world, ExitStack() as cleanup:
        loader = eval_loader(data, augment, rank=0, world_size=1, device=world.device)
        cleanup.callback(loader.close)
        labels, remarks = labels_of(trained, loader.beton, str(subject.weights))
        model, adapted = trained.create(eval_resolution(data))
        model = model.to(world.device).eval()
        if config.train.channels_last:
            model = to_channels_last(model)
        teacher = _teacher(config, trained, eval_resolution(data), world.device)
        how: dict[str, Any] = {"amp": resolve_amp(config.train.amp, world.device), "attention": config.train.attention}
        how["channels_last"] = config.train.channels_last
        with TokenSimilarity(model) as tokens:
            outcomes = outcomes_of(
                model, loader, world.device, config.eval, num_classes=trained.num_classes, labels=labels, teacher=teacher, **how
            )  # fmt: skip
        images = _Images(images_of(loader.beton), data, augment)
        wrong = outcomes.confidently_wrong(config.analyse.images)
        pictures, chosen = images, _spread(outcomes.labels, config.analyse.images)
        titles = [f"sample {outcomes.samples[index]}" for index in chosen]
        samples = outcomes.samples[chosen]
        if config.analyse.pictures:
            pictures = cleanup.enter_context(_pictures(config.analyse.pictures, data, augment))
            samples, titles = np.arange(len(config.analyse.pictures)), [Path(path).name for path in config.analyse.pictures]
        normalised, levels = pictures.views(samples)
        findings = Findings(
            trained=trained,
            model=model,
            val=data.val,
            remarks=[*subject.remarks, *remarks, *adapted],
            class_names=_class_names(trained, loader),
            outcomes=outcomes,
            calibration=calibration(outcomes.confidence, outcomes.is_correct, config.analyse.bins),
            cosines=tokens.cosines,
            wrong=wrong,
            wrong_levels=images.views(outcomes.samples[wrong])[1] if len(wrong) else np.empty((0, 1, 1, 3), np.uint8),
            titles=titles,
            levels=levels,
            maps=_maps(model, normalised, world.device),
        )
    result = as_result(findings)
    write_file(subject.html, page_of_sections(f"Analysis of {subject.weights}", sections_of(findings)).encode())
    print(f"analysis of {subject.weights}, top-1 {result['top1']:.2f} %: {subject.html}")
    return {"html": str(subject.html), **result}


def _subject(config: RunConfig) -> _Subject:
    """Raises UserError where analyse.run is nothing to read, or data.val is known neither from it nor from the options."""
    if not config.analyse.run:
        raise UserError("analyse.run is not set: want the folder of a run, or a file of weights")
    given = Path(config.analyse.run)
    weights, folder = given, given.parent.parent
    if given.is_dir():
        folder = given
        found = [path for name in ("best.pt", "last.pt") if (path := given / "checkpoints" / name).is_file()]
        if not found:
            raise UserError(f"analyse.run={given}: has no checkpoints/best.pt; want the folder of a run, or a file of weights")
        weights = found[0]
    remarks: list[str] = []
    if (folder / "run.json").is_file():
        config, remarks = _completed(config, folder)
    else:
        folder = weights.parent
    if not config.data.val:
        raise UserError("data.val is not set: want the beton of the validation set")
    return _Subject(weights, Path(config.analyse.html or folder / "analysis.html"), config, remarks)


def _completed(config: RunConfig, folder: Path) -> tuple[RunConfig, list[str]]:
    """The configuration with the validation set and the teacher of a run where it has none, and lines about what is missing."""
    of_run = load_run(folder).config
    changes: dict[str, Any] = {} if config.data.val else {"data.val": of_run.get("data.val") or ""}
    weights = of_run.get("distil.teacher_weights") or ""
    if config.distil.teacher_weights or not weights or of_run.get("distil.kind") not in ("hard", "soft"):
        return config.changed(changes), []
    if not Path(weights).is_file():
        return config.changed(changes), [f"the run's teacher {weights} is not there: nothing is said of it"]
    prefix = "distil.teacher_options."
    options = {name.removeprefix(prefix): value for name, value in of_run.items() if name.startswith(prefix)}
    teacher = {"teacher": of_run["distil.teacher"], "teacher_weights": weights, "teacher_options": options}
    return config.changed(changes | {f"distil.{name}": value for name, value in teacher.items()}), []


def _teacher(config: RunConfig, trained: Trained, resolution: int, device: torch.device) -> Teacher | None:
    if not config.distil.teacher_weights:
        return None
    own = DistilConfig(
        teacher=config.distil.teacher,
        teacher_weights=config.distil.teacher_weights,
        teacher_options=config.distil.teacher_options,
    )
    view = trained.view
    how: dict[str, Any] = {"channels_last": config.train.channels_last, "attention": config.train.attention}
    return create_teacher(
        own, num_classes=trained.num_classes, resolution=resolution, mean=view.mean, std=view.std, device=device,
        compile_mode="off", **how,
    )  # fmt: skip


def _class_names(trained: Trained, loader: Loader) -> list[str]:
    names = trained.classes or loader.beton.classes
    return list(names) if names and len(names) == trained.num_classes else list(map(str, range(trained.num_classes)))


def _spread(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of up to count images: the first of each class, then the second, and so on, classes spread evenly."""
    order = np.argsort(labels, kind="stable")
    _, firsts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.arange(len(labels)) - np.repeat(firsts, counts)  # of each image among those of its class
    chosen = order[np.lexsort((labels[order], ranks))]
    if count < len(firsts):
        chosen = chosen[np.linspace(0, len(firsts) - 1, count).round().astype(int)]
    return chosen[:count]


@dataclass(frozen=True, eq=False)
class _Images:
    """Stored images, and the options that make evaluation's views of them."""

    stored: Images
    data: DataConfig
    augment: AugmentConfig

    def views(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Images (B, H, W, 3) of samples (B,): normalised float32, and grey levels."""
        recipe = Recipe(replace(self.data, dtype="float32"), self.augment, self.stored.beton.num_classes, None)
        ids = rng.pack_view_ids(0, samples, np.zeros(len(samples), np.int64))
        images = np.asarray(make_views(self.stored, recipe, ids, eval_resolution(self.data)).images)
        return images.astype(np.float32), as_levels(images, self.augment.mean, self.augment.std)


@contextmanager
def _pictures(paths: Sequence[str], data: DataConfig, augment: AugmentConfig) -> Iterator[_Images]:
    """The images in files, converted with default options."""
    with tempfile.TemporaryDirectory(prefix="deit_fast-pictures-") as folder:
        source, beton = Path(folder) / "files" / "pictures", Path(folder) / "pictures.beton"
        source.mkdir(parents=True)
        for index, path in enumerate(map(Path, paths)):
            if not path.is_file():
                raise UserError(f"analyse.pictures={path}: no such file; want image files")
            (source / f"{index:06}{path.suffix}").symlink_to(path.resolve())
        with silent():
            write_beton(SourceConfig(path=str(source.parent)), WriteConfig(out=str(beton), num_workers=1))
        images = open_images(beton)
        if images.beton.num_samples != len(paths):
            raise UserError(f"analyse.pictures={','.join(paths)}: some are no image files; want image files")
        yield _Images(images, data, augment)


def _maps(model: nn.Module, normalised: NDArray[np.float32], device: torch.device) -> AttentionMaps | None:
    return attention_maps(model, torch.from_numpy(normalised).permute(0, 3, 1, 2).to(device))
