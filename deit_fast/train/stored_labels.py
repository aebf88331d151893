"""A teacher's answers from a file, in the place of the teacher: what the file belongs to, and the answers to a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.augment.mixing import mixing_of
from deit_fast.config import Decides, RunConfig, UserError, in_words, without_betons
from deit_fast.data.load.loader import Batch
from deit_fast.kernels import mix, rng
from deit_fast.labels.file import LabelsFile
from deit_fast.train.checkpoint import OF_STAGE
from deit_fast.train.dist import World
from deit_fast.train.schedule import has_changing_views, loaded_resolution, stage_of_epoch
from deit_fast.train.step import Labels
from deit_fast.train.teacher import digest_of_teacher

_MIXING = (
    "augment.mixup", "augment.cutmix", "augment.cutmix_minmax", "augment.mix_mode", "augment.mix_probability",
    "augment.cutmix_probability",
)  # fmt: skip
_NOT_SEEN = ("data.eval_resolution", "data.dtype", "augment.label_smoothing")  # of the options of data and augment


def belongings(config: RunConfig, train_set: Mapping[str, str], of: str) -> dict[str, Any]:
    """What decides which images the teacher of a run sees, by name.

    train_set: digests of the training set's content; of: of `Header`. Of the options that decide on weights these are the ones
    about views, less those that have no say here: the batch and its mixing where the teacher sees views before mixing.
    """
    options = {
        key: value
        for key, value in config.options_that_decide(Decides.WEIGHTS).items()
        if key.startswith(("data.", "augment.")) and key not in _NOT_SEEN
    }
    data, augment = config.data, config.augment
    mixing = _MIXING if of == "views" else ()
    changing = has_changing_views(config)
    unused = [
        *mixing,
        *(("data.ramp",) if data.start_resolution is None else ()),
        *(("data.shrink",) if data.shrink == "resample" or not changing else ()),
        *(("data.window_gb",) if data.order == "random" else ()),
        *(("data.eval_crop_ratio",) if augment.crop != "centre" else ()),
    ]
    for key in unused:
        options.pop(key, None)
    options["data.seed"] = config.view_seed
    if changing:
        options["train.epochs"] = config.train.epochs  # by which views change
    if config.schedule.stages:
        options["schedule.stages"] = [
            {key: item for key, item in _as_read(stage).items() if key not in (*mixing, *_NOT_SEEN)}
            for stage in without_betons(config.schedule.stages)
        ]
    if of == "mixed":
        options["data.batch_size"] = data.batch_size
    return {**_as_read(options), **{f"data.train: {what}": digest for what, digest in train_set.items()}}


def _as_read(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}


class StoredLabels:
    """The answers in distil.labels to the batches of a run on one rank.

    train_set: digests of the training set's content. `num_epochs` are labelled; a longer run shows their views again, from the
    first on. Raises UserError if the file belongs to other views, classes or teachers, and if it lacks what distil.kind needs.
    """

    def __init__(self, config: RunConfig, train_set: Mapping[str, str], num_classes: int, world: World) -> None:
        self._file = LabelsFile(config.distil.labels)
        self._config, self._world, self._num_classes = config, world, num_classes
        header = self._header = self._file.header
        self.num_epochs, self.digest = header.num_epochs, self._file.digest
        where = f"distil.labels={config.distil.labels}"
        ours = {"number of classes": num_classes, **belongings(config, train_set, header.of)}
        theirs = {"number of classes": header.num_classes, **header.belongs}
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                raise UserError(
                    f"{where}: belongs to {_words(name, theirs.get(name))}, this run has {_words(name, ours.get(name))}; want "
                    "the same, or labels of this run by deit-fast teach"
                )
        if has_changing_views(config) and header.num_epochs != config.train.epochs:
            by = "schedule.stages" if config.schedule.stages else "data.start_resolution"
            raise UserError(
                f"{where}: has {header.num_epochs} of {config.train.epochs} epochs, and with {by} none can be shown again; "
                "want labels of all"
            )
        if config.distil.kind == "soft" and header.top == 1:
            raise UserError(
                f"{where}: holds no probabilities, which distil.kind=soft needs; want hard, or labels with teach.top=5"
            )
        self._check_teacher(where)

    def _check_teacher(self, where: str) -> None:
        distil, teachers = self._config.distil, self._header.teachers
        if not distil.teacher_weights:
            return
        digest = digest_of_teacher(distil)
        if [teacher["digest"] for teacher in teachers] != [digest]:
            held = " and ".join(f"{teacher['name']} {teacher['digest'][:12]}" for teacher in teachers)
            raise UserError(
                f"{where}: holds the answers of {held}; distil.teacher_weights={distil.teacher_weights} is {distil.teacher} "
                f"{digest[:12]}; want its labels, or leave the weights out"
            )

    @property
    def remarks(self) -> list[str]:
        """A line on whose answers these are."""
        names = ", ".join(teacher["name"] for teacher in self._header.teachers)
        images = "mixed images" if self._header.of == "mixed" else "views before mixing"
        again = f", again from epoch {self.num_epochs + 1} on" if self.num_epochs < self._config.train.epochs else ""
        return [f"labels: answers of {names} to the {images} of {self.num_epochs} epochs{again}"]

    def answers(self, batch: Batch, epoch: int, step: int) -> torch.Tensor:
        """Answers to this rank's batch at a step of an epoch, on its device: what `Objective.answers` makes of a teacher's.

        distil.kind=hard: (B,) int64 classes; or (B, C) float32 shares of two classes, where the images were mixed after the
        teacher had seen them. soft: (B, C) float32 logits.
        """
        epoch %= self.num_epochs
        count = len(batch.images)
        entries = self._file.read(epoch, (step * self._world.world_size + self._world.rank) * count, count)
        classes = self._there(entries["classes"].astype(np.int64))  # the rest is computed on the device
        is_hard = self._config.distil.kind == "hard"
        if is_hard and self._header.of == "mixed":
            return classes[:, 0].contiguous()
        if is_hard:
            shares = torch.zeros(count, self._num_classes, device=classes.device).scatter_(1, classes[:, :1], 1.0)
        else:
            probabilities = self._there(entries["probabilities"].astype(np.float32))
            shares = tempered(classes, probabilities, self._num_classes, self._config.distil.tau)
        if self._header.of == "views":
            shares = self._mixed(shares, batch, epoch)
        return shares if is_hard else shares.log() * self._config.distil.tau

    def _mixed(self, shares: torch.Tensor, batch: Batch, epoch: int) -> torch.Tensor:
        """Shares (B, C) of the views, mixed as their images are: the loader's mixing is a function of seed and view ids."""
        ids: NDArray[np.uint64] = rng.pack_view_ids(epoch, batch.samples.numpy(), batch.views.numpy())
        stage = stage_of_epoch(self._config, epoch)
        side = loaded_resolution(self._config, stage)
        mixed = mix.mix_of(np.uint64(self._config.view_seed), ids, mixing_of(stage.augment), side, side)
        lam, partner = self._there(mixed.lam.astype(np.float32)[:, None]), self._there(mixed.partner)
        return lam * shares + (1 - lam) * shares[partner]

    def _there(self, values: NDArray[Any]) -> torch.Tensor:
        """Values on the run's device, for whose copy nobody waits."""
        tensor, device = torch.from_numpy(values), self._world.device
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def any_labels(config: RunConfig, num_classes: int) -> Labels:
    """Answers of the kind that distil.kind uses, without a file: to measure how long a step takes."""
    is_hard = config.distil.kind == "hard"

    def labels(batch: Batch, epoch: int, step: int) -> torch.Tensor:
        shape, dtype = ((len(batch.images),), torch.int64) if is_hard else ((len(batch.images), num_classes), torch.float32)
        return torch.zeros(shape, dtype=dtype, device=batch.images.device)

    return labels


def tempered(classes: torch.Tensor, probabilities: torch.Tensor, num_classes: int, tau: float) -> torch.Tensor:
    """Probabilities (B, C) float32 at a temperature, from the k most likely (B, k) at temperature 1; C is num_classes.

    The rest of the probability is spread evenly over the other classes. Then each is raised to 1 / tau, and divided by their
    sum: the softmax of the teacher's logits / tau, if the teacher gives all other classes the same.
    """
    num_others = max(1, num_classes - classes.shape[1])
    rest = (1 - probabilities.sum(1, keepdim=True)).clamp(min=1e-7) / num_others
    full = rest.expand(len(classes), num_classes).scatter(1, classes, probabilities.clamp(min=1e-7))
    powers = full ** (1 / tau)
    return powers / powers.sum(1, keepdim=True)


def _words(name: str, value: Any) -> str:
    """`option=value` as a command line has it; a digest by its beginning."""
    if name.startswith("data.train: "):
        return _words_of_set(name.removeprefix("data.train: "), value)
    if value is None and "." not in name:
        return f"no {name}"
    if "." not in name:
        return f"{name} {value}"
    return f"{name}={in_words(name, tuple(value) if isinstance(value, list) else value)}"


def _words_of_set(what: str, value: str | None) -> str:
    """Of a value of `train_set_digests`, or of one that is missing there."""
    if value is None:
        return "the training set's own images in that stage" if OF_STAGE in what else f"no {what} of the training set"
    if what == "order":
        return f"an order by pages of {value}"
    return f"other {what} of the training set ({value[:12]})"
