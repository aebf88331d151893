"""The sections of an analysis: figures, tables and small images."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deit_fast.looking.findings import Findings
from deit_fast.looking.first_layer import first_filters, position_similarity
from deit_fast.looking.pictures import coloured, overlaid, side_by_side, stretched
from deit_fast.model.create import num_parameters
from deit_fast.report.drawing import INK, Drawing, literal, new_figure
from deit_fast.report.sections import Group, Section, Tile
from deit_fast.report.tables import Cell, Column, make_table, number, percent, share

_BLUE, _GREY = "#1f6fb2", "#c3cad2"
_MAX_NAMED = 20  # classes whose names stand beside the confusion matrix
_MOST_PAIRS = 30
_PICTURE = 400  # pixels, roughly, of a picture of many maps


def sections_of(findings: Findings) -> list[Section]:
    """All sections that apply to the model; key figures first."""
    found = [
        _head(findings),
        _heads_and_teacher(findings),
        _tokens(findings),
        _attention(findings),
        _first_layer(findings),
        _classes(findings),
        _calibration(findings),
        _wrong(findings),
    ]
    return [section for section in found if section is not None]


def _head(findings: Findings) -> Section:
    trained, outcomes = findings.trained, findings.outcomes
    facts = {
        "Model": trained.model.name,
        "Parameters": number(num_parameters(findings.model)),
        "Weights": trained.weights_name + (f", epoch {trained.epoch + 1}" if trained.epoch is not None else ""),
        "Images": f"{len(outcomes.labels):,} of {len(findings.class_names):,} classes",
        "Top-1": percent(100 * float(outcomes.is_correct.mean())),
        "Top-5": percent(100 * float(outcomes.is_in_top5.mean())),
        "Loss": f"{outcomes.loss.mean():.4f}",
        "Calibration error": share(findings.calibration.error),
        "Decides": outcomes.decider,
    }
    return Section("", f"{trained.path} on {findings.val}. " + " ".join(f"{line}." for line in findings.remarks), facts)


def _heads_and_teacher(findings: Findings) -> Section | None:
    """Accuracy of each part, and how often two of them disagree."""
    outcomes = findings.outcomes
    if len(outcomes.answers) == 1:
        return None
    names, table = outcomes.disagreement()
    columns = [Column("Part", mark="name"), *(Column(name, share) for name in names)]
    rows = [(name, *row) for name, row in zip(names, table.tolist(), strict=True)]
    accuracy = make_table(
        "Top-1", [Column("Part", mark="name"), Column("Top-1", percent, "strong")], outcomes.accuracies().items()
    )
    disagreement = make_table("Disagreement", columns, rows, "As the paper's Table 4; with the label: the error.")
    remark = "Which class each part of the model says, and how often two of them say different ones, as a share of the images."
    return Section("Heads and teacher", remark, tables=[table for table in (accuracy, disagreement) if table])


def _tokens(findings: Findings) -> Section | None:
    if not findings.cosines:
        return None
    figure, (axes,) = new_figure(3.1, "Cosine of class and distillation token")
    axes.plot(range(len(findings.cosines)), findings.cosines, marker=".", color=_BLUE)
    axes.set_xlabel("blocks done")
    axes.set_ylim(min(0.0, *findings.cosines) - 0.03, 1.03)
    axes.grid(alpha=0.25)
    first, last = findings.cosines[0], findings.cosines[-1]
    remark = (
        f"Mean over all images: {first:.2f} before the first block, {last:.2f} after the last. The paper's model has 0.06 and "
        "0.93: the tokens begin apart, and become similar but not the same."
    )
    return Section("Class and distillation token", remark, drawings=[Drawing("tokens", "Cosine by layer", figure)])


def _attention(findings: Findings) -> Section | None:
    maps = findings.maps
    if maps is None:
        return None
    groups = []
    for index, (title, levels) in enumerate(zip(findings.titles, findings.levels, strict=True)):
        tiles = [Tile(levels, title)]
        tiles += [
            Tile(overlaid(levels, rolled[index]), f"rollout of {title}", (f"rollout, {token} token",))
            for token, rolled in maps.rollout.items()
        ]
        last = maps.layers[-1][index]
        tiles.append(Tile(overlaid(levels, last.mean(0)), f"last layer on {title}", ("last layer, mean of heads",)))
        if len(last) > 1:
            tiles += [
                Tile(overlaid(levels, one), f"head {head} on {title}", (f"last layer, head {head}",))
                for head, one in enumerate(last, start=1)
            ]
        groups.append(Group(title, tiles))
    layers = [
        Tile(overlaid(findings.levels[0], layer[0].mean(0)), f"layer {number}", (f"layer {number}",))
        for number, layer in enumerate(maps.layers, start=1)
    ]
    groups.append(Group(f"{findings.titles[0]}: each layer, mean of heads", layers))
    remark = (
        "What the class token attends to; each map goes from its smallest weight, dark, to its largest, bright. Rollout (Abnar "
        "and Zuidema 2020) follows attention through all layers, each as the mean of its heads and the identity."
    )
    return Section("Attention", remark, groups=groups)


def _first_layer(findings: Findings) -> Section | None:
    groups = []
    filters = first_filters(findings.model)
    if filters is not None:
        what, values = filters
        factor = max(1, _PICTURE // (8 * values.shape[2]))
        picture = side_by_side(stretched(values), 8, factor=factor)
        groups.append(Group("Filters", [Tile(picture, "first filters", (f"{what}; grey is zero",))], is_wide=True))
    similarity = position_similarity(findings.model)
    if similarity is not None:
        groups.append(Group("Positions", [_positions(similarity)], is_wide=True))
    return Section("First layer", groups=groups) if groups else None


def _positions(similarity: NDArray[np.float32]) -> Tile:
    """A map for each patch: how similar its position embedding is to each other's."""
    height, width = similarity.shape[:2]
    maps = similarity.reshape(height * width, height, width)
    others = similarity[~np.eye(height * width, dtype=bool).reshape(similarity.shape)]  # a position is like itself: 1
    low, high = float(others.min()), float(others.max())
    factor = max(1, _PICTURE // (width * width))
    line = f"a map for each patch: cosine of its position with the others', from {low:.2f} (dark) to {high:.2f} (bright)"
    return Tile(
        side_by_side(coloured(maps.clip(low, high), low, high), width, factor=factor), "similarity of positions", (line,)
    )


def _classes(findings: Findings) -> Section:
    rows = [
        (row["class"], row["num_images"], row["top1"], row["taken_for"], row["taken_for_count"] or None)
        for row in findings.by_class()
    ]
    columns = (
        Column("Class", mark="name"), Column("Images", number), Column("Top-1", percent, "strong"),
        Column("Most often taken for"), Column("Images", number),
    )  # fmt: skip
    pairs = [
        (f"{findings.class_names[label]} → {findings.class_names[predicted]}", count)
        for label, predicted, count in findings.confusions()[:_MOST_PAIRS]
    ]
    tables = [
        make_table("Accuracy by class", columns, rows),
        make_table("Most frequent confusions", (Column("Class → taken for", mark="name"), Column("Images", number)), pairs),
    ]
    drawings = [Drawing("confusion", "Confusion matrix", _confusion_figure(findings))]
    return Section("Classes", drawings=drawings, tables=[table for table in tables if table])


def _confusion_figure(findings: Findings) -> Figure:
    table = findings.outcomes.confusion().astype(np.float64)
    shares = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    figure, (axes,) = new_figure(4.0, "Confusion: % of a class's images")
    image = axes.imshow(shares, cmap="magma_r", vmin=0, vmax=100, aspect="equal", interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    if len(shares) <= _MAX_NAMED:
        names = [literal(name) for name in findings.class_names]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for label, row in enumerate(shares):
            for predicted, value in enumerate(row):
                if value >= 0.5:
                    color = "white" if value > 50 else INK
                    axes.text(predicted, label, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def _calibration(findings: Findings) -> Section:
    found = findings.calibration
    num_bins = len(found.counts)
    figure, (reliability,) = new_figure(3.1, "Reliability")
    counts, (histogram,) = new_figure(3.1, "Images by confidence")
    middles, width = (np.arange(num_bins) + 0.5) / num_bins, 1 / num_bins
    reliability.bar(middles, np.nan_to_num(found.accuracy), width * 0.95, color=_BLUE)
    reliability.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="--")
    reliability.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    histogram.bar(middles, found.counts, width * 0.95, color=_GREY)
    histogram.set(xlim=(0, 1), xlabel="confidence")
    columns = (Column("Confidence"), Column("Images", number), Column("Mean confidence", share), Column("Accuracy", share))
    rows = [
        (Cell(f"{index / num_bins:.3f} to {(index + 1) / num_bins:.3f}", index), int(count), sure, right)
        for index, (count, sure, right) in enumerate(
            zip(found.counts, found.confidence.tolist(), found.accuracy.tolist(), strict=True)
        )
        if count
    ]
    remark = (
        f"The expected calibration error is {share(found.error)}: the mean distance of confidence from accuracy, in {num_bins} "
        "bins of confidence. Where a bar ends below the line, the model is surer than it should be."
    )
    table = make_table("Bins of confidence", columns, rows)
    drawings = [Drawing("reliability", "Reliability", figure), Drawing("confidence", "Images by confidence", counts)]
    return Section("Calibration", remark, drawings=drawings, tables=[table] if table else [])


def _wrong(findings: Findings) -> Section | None:
    if not len(findings.wrong):
        return None
    outcomes, names = findings.outcomes, findings.class_names
    tiles = [
        Tile(
            levels,
            f"sample {outcomes.samples[index]}",
            (
                f"{names[outcomes.labels[index]]}, taken for {names[outcomes.predicted[index]]}",
                f"{share(float(outcomes.confidence[index]))}, sample {outcomes.samples[index]}",
            ),
        )
        for index, levels in zip(findings.wrong, findings.wrong_levels, strict=True)
    ]
    remark = "The images on which the model is wrong and surest, as it sees them: class, answer, and probability of the answer."
    return Section("Most confidently wrong", remark, groups=[Group("", tiles)])
