"""The command `views`: what a configuration does to images, as a page and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import policy_of
from deit_fast.config import RunConfig, UserError, is_mixing
from deit_fast.kernels import mix, rng
from deit_fast.looking.contact_sheet import contact_sheet
from deit_fast.looking.operations import Drawn, in_words, operations_of, single_operation, steps_of
from deit_fast.looking.view_maker import ViewMaker, plain, view_maker
from deit_fast.report.html import write_file
from deit_fast.report.sections import Group, Section, Tile, page_of_sections

_NUM_OPERATION_IMAGES = 2  # on which each operation is shown
_MAX_EPOCHS = 20  # in which a mixed batch is looked for
_NAMES = {mix.MIXUP: "Mixup", mix.CUTMIX: "CutMix"}


@dataclass(frozen=True)
class _Shown:
    """The first images of an epoch: ids (images, repeats) of their views, and what makes these."""

    maker: ViewMaker
    ids: NDArray[np.uint64]

    @property
    def samples(self) -> list[int]:
        return [int(sample) for sample in rng.sample_of(self.ids[:, 0])]

    def class_of(self, sample: int) -> str:
        return self.class_name(int(self.maker.beton.labels[sample]))

    def titled(self, sample: int) -> str:
        """The class of a sample, and its number."""
        return f"{self.class_of(sample)}, sample {sample}"

    def class_name(self, label: int) -> str:
        classes = self.maker.beton.classes
        return str(label) if classes is None else classes[label]


def show_views(config: RunConfig) -> dict[str, Any]:
    """Writes views.html and, beside it, a PNG of the same; gives their paths, and what each view shows.

    All pixels are made by the loader's code, and depend on the seed alone. Raises UserError where there are no images, and for
    a page that cannot be written.
    """
    html = Path(config.views.html)
    if html.suffix != ".html":
        raise UserError(f"views.html={html}: want a name that ends in .html; the contact sheet gets the same with .png")
    with view_maker(config, config.views.images) as maker:
        shown = _Shown(maker, _first_views(maker, config.views.images))
        found: dict[str, Any] = {"samples": shown.samples, "operations": [], "mixed": []}
        sections = [
            _evaluation(shown),
            _crops(shown),
            *_operations(shown, config.views.magnitudes, found["operations"]),
            *_policy(shown),
            *_erasing(shown),
            *_mixing(shown, found["mixed"]),
            _batch(shown),
        ]
        about = (
            f"{config.data.train or config.source.path}: {maker.beton.num_samples} images, {maker.beton.num_classes} classes"
        )
    if not config.data.train:
        about += " (a part of the source)"
    title = "What training sees"
    head = Section("", about, facts=_facts(config, maker))
    write_file(html, page_of_sections(title, [head, *sections]).encode())
    png = html.with_suffix(".png")
    write_file(png, contact_sheet(title, [head, *sections]))
    print(f"views of {len(shown.samples)} images: {html}, {png}")
    return {"html": str(html), "png": str(png), **found}


def _first_views(maker: ViewMaker, num_images: int) -> NDArray[np.uint64]:
    """View ids (images, repeats) of the first images of the first epoch, as many as there are."""
    repeats = maker.augment.repeats
    samples = maker.order.stream(0)[: min(num_images, len(maker.order.samples))]  # type: ignore[union-attr]
    views = np.broadcast_to(np.arange(repeats), (len(samples), repeats))
    return rng.pack_view_ids(0, np.broadcast_to(samples[:, None], views.shape), views)


def _facts(config: RunConfig, maker: ViewMaker) -> dict[str, str]:
    augment = maker.augment
    mixing = {"Mixup": augment.mixup, "CutMix": augment.cutmix_minmax or augment.cutmix}
    kinds = [f"{name} {alpha}" for name, alpha in mixing.items() if alpha] if is_mixing(augment) else []
    return {
        "Resolution": f"{config.data.resolution} pixels",
        "Crop": f"{augment.crop}, scale {augment.crop_scale[0]:g} to {augment.crop_scale[1]:g}",
        "Flip": f"{augment.flip:g}",
        "Policy": augment.auto_augment or "off",
        "Colour jitter": f"{augment.color_jitter:g}",
        "Erasing": f"{augment.erase:g}, {augment.erase_mode}",
        "Mixing": f"{', '.join(kinds)}; {augment.mix_mode}, probability {augment.mix_probability:g}" if kinds else "off",
        "Label smoothing": f"{augment.label_smoothing:g}",
        "Seed": str(maker.seed),
    }


def _evaluation(shown: _Shown) -> Section:
    beton = shown.maker.beton
    tiles = [
        Tile(pixels, f"sample {sample} in evaluation", (shown.class_of(sample), f"{sample}: {width}x{height}"))
        for pixels, sample, width, height in zip(
            shown.maker.eval_views(shown.ids[:, 0]), shown.samples, beton.widths[shown.samples], beton.heights[shown.samples],
            strict=True,
        )
    ]  # fmt: skip
    remark = "The shorter side is resized, and the centre is cut out. Below: class, sample number, and size of the image."
    return Section("In evaluation", remark, groups=[Group("", tiles)])


def _crops(shown: _Shown) -> Section:
    views = shown.maker.views(shown.ids.reshape(-1), plain(shown.maker.augment))
    groups = [
        Group(
            shown.titled(sample),
            [Tile(pixels, f"sample {sample}, view {number}", (f"view {number}",)) for number, pixels in enumerate(several)],
        )
        for sample, several in zip(shown.samples, views.reshape(*shown.ids.shape, *views.shape[1:]), strict=True)
    ]
    remark = f"The {shown.ids.shape[1]} views of an image in a batch (augment.repeats), cropped and flipped, and nothing else."
    return Section("Repeats", remark, groups=groups)


def _operations(shown: _Shown, magnitudes: Sequence[float] | None, found: list[dict[str, Any]]) -> list[Section]:
    maker = shown.maker
    policy = policy_of(maker.augment, maker.data.interpolation)
    ids = shown.ids[:_NUM_OPERATION_IMAGES, 0]
    before = maker.views(ids, plain(maker.augment))
    groups = [Group("before", [Tile(view, "before", ("crop and flip",)) for view in before])]
    for operation in operations_of(policy):
        groups.append(_group_of(shown, operation, magnitudes, found))
    if policy.jitter:
        jitter = policy_of(replace(maker.augment, auto_augment=""), maker.data.interpolation)
        several = shown.ids[:_NUM_OPERATION_IMAGES].reshape(-1)[:6]
        tiles = [
            Tile(view, "colour jitter", tuple(map(in_words, steps)))
            for view, steps in zip(
                maker.views(several, plain(maker.augment), jitter),
                steps_of(jitter, maker.seed, several, maker.data.resolution),
                strict=True,
            )
        ]
        groups.append(Group(f"colour jitter {policy.jitter:g}", tiles))
    remark = (
        "Each operation alone, on the same crops, at a third, two thirds and all of the largest magnitude that the policy "
        "gives it (views.magnitudes chooses others); below each: the magnitude, and the argument that Pillow would be given."
    )
    return [Section("Operations", remark, groups=groups)] if len(groups) > 1 else []


def _group_of(shown: _Shown, operation: Drawn, magnitudes: Sequence[float] | None, found: list[dict[str, Any]]) -> Group:
    maker, ids = shown.maker, shown.ids[:_NUM_OPERATION_IMAGES, 0]
    policy = policy_of(maker.augment, maker.data.interpolation)
    wanted = magnitudes or [operation.magnitude * share / 3 for share in (1, 2, 3)]
    columns = []
    for magnitude in wanted if operation.argument else wanted[-1:]:
        only = single_operation(policy, operation, magnitude)
        views = maker.views(ids, plain(maker.augment), only)
        arguments = [argument for ((_, argument),) in steps_of(only, maker.seed, ids, maker.data.resolution)]
        found += [
            {"operation": operation.name, "magnitude": magnitude, "argument": argument, "sample": sample}
            for argument, sample in zip(arguments, shown.samples, strict=False)
        ]
        lines = [(f"m {magnitude:.3g}: {argument:.3g}",) if operation.argument else () for argument in arguments]
        title = f"{operation.name}, magnitude {magnitude:.3g}"
        columns.append([Tile(pixels, title, line) for pixels, line in zip(views, lines, strict=True)])
    tiles = [tile for row in zip(*columns, strict=True) for tile in row]
    return Group(f"{operation.name}{': ' * bool(operation.argument)}{operation.argument}", tiles)


def _policy(shown: _Shown) -> list[Section]:
    maker = shown.maker
    policy = policy_of(maker.augment, maker.data.interpolation)
    if not policy.num_steps:
        return []
    ids = shown.ids.reshape(-1)
    views = maker.views(ids, plain(maker.augment), policy)
    steps = [tuple(map(in_words, one)) for one in steps_of(policy, maker.seed, ids, maker.data.resolution)]
    groups = [
        Group(
            shown.titled(sample),
            [Tile(views[index], f"sample {sample} augmented", steps[index] or ("nothing",)) for index in indices],
        )
        for sample, indices in zip(shown.samples, np.arange(len(ids)).reshape(shown.ids.shape), strict=True)
    ]
    return [Section("The policy", "The views above after all that the policy draws for them.", groups=groups)]


def _erasing(shown: _Shown) -> list[Section]:
    maker = shown.maker
    if not maker.augment.erase:
        return []
    views = maker.views(shown.ids[:, 0], replace(plain(maker.augment), erase=1.0))
    tiles = [
        Tile(pixels, f"sample {sample} erased", (shown.class_of(sample),))
        for pixels, sample in zip(views, shown.samples, strict=True)
    ]
    remark = (
        f"The box that would be erased (augment.erase_mode={maker.augment.erase_mode}); training does so with probability "
        f"{maker.augment.erase:g}. Noise beyond the range of grey levels is cut off here."
    )
    return [Section("Erasing", remark, groups=[Group("", tiles)])]


def _mixing(shown: _Shown, found: list[dict[str, Any]]) -> list[Section]:
    maker = shown.maker
    groups = []
    for kind, name in _NAMES.items():
        batch = _batch_of_kind(maker, kind)
        if batch is None:
            continue
        epoch, step, ids, mixed = batch
        views, targets, _ = maker.batch(ids)
        indices = np.flatnonzero(mixed.kind == kind)[: len(shown.samples)].tolist()
        tiles = []
        for index in indices:
            partner, share = int(mixed.partner[index]), float(mixed.lam[index])
            shares = _shares(shown, targets[index])
            own, other = (int(rng.sample_of(ids[one])) for one in (index, partner))
            lines = (*_percentages(shares), f"{own} with {other}")
            tiles.append(Tile(views[index], f"{name} of samples {own} and {other}", lines))
            entry = {"epoch": epoch, "step": step, "place": index, "partner": partner, "share": share, "targets": shares}
            found.append({"kind": name, **entry, "sample": own, "other": other})
        groups.append(Group(f"{name}: epoch {epoch + 1}, step {step + 1}", tiles))
    remark = (
        "The first views of the first batch that is mixed so, with their targets: shares of classes, after label smoothing, "
        "and the numbers of both samples."
    )
    return [Section("Mixing", remark, groups=groups)] if groups else []


def _batch_of_kind(maker: ViewMaker, kind: int) -> tuple[int, int, NDArray[np.uint64], mix.Mix] | None:
    """Epoch, step, ids (B,) and mix of the first batch in which views are mixed so; None where there is none."""
    if not is_mixing(maker.augment):
        return None
    how, side = mixing_of(maker.augment), maker.data.resolution
    for epoch in range(_MAX_EPOCHS):
        for step, ids in enumerate(islice(maker.order.batches(epoch), 1000)):
            mixed = mix.mix_of(np.uint64(maker.seed), ids, how, side, side)
            if (mixed.kind == kind).any():
                return epoch, step, ids, mixed
    return None


def _batch(shown: _Shown) -> Section:
    ids = shown.maker.order.batches(0)[0]
    views, targets, made = shown.maker.batch(ids)
    tiles = [
        Tile(pixels, f"sample {int(rng.sample_of(one))} in training", _percentages(_shares(shown, target)))
        for pixels, target, one in zip(views[: shown.ids.size], targets, made, strict=False)
    ]
    remark = "The beginning of the first batch of the first epoch, as the network sees it, with its targets."
    return Section("The first batch", remark, groups=[Group("", tiles)])


def _shares(shown: _Shown, target: NDArray[np.float32]) -> dict[str, float]:
    """The classes of a soft target that have more than label smoothing gives to all, with their shares, the largest first."""
    rest = shown.maker.augment.label_smoothing / len(target)
    largest = np.argsort(-target, kind="stable")[:2].tolist()
    kept = [label for label in largest if target[label] > rest + 1e-4] or largest[:1]
    return {shown.class_name(label): float(target[label]) for label in kept}


def _percentages(shares: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"{name} {100 * share:.1f} %" for name, share in shares.items())
