"""Classifies images with a trained model (`deit-fast predict`), in batches, and names those that do not decode."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from deit_fast.bar import Bar
from deit_fast.config import RunConfig, UserError, eval_batch_size
from deit_fast.data.convert.pixels import max_pixels
from deit_fast.data.load.compile_ahead import FILES, ON_CPU, compile_ahead
from deit_fast.data.load.loader import num_threads
from deit_fast.predict.inputs import Inputs, list_images
from deit_fast.predict.model import Predictor, open_predictor
from deit_fast.predict.results import Classification, Results
from deit_fast.predict.views import ViewBatch, ViewMaker
from deit_fast.train.dist import choose_device


def predict_images(config: RunConfig) -> dict[str, Any]:
    """Classifies predict.images by predict.model, in order. Gives facts and counts, and for --out the classes of each image.

    Images are seen as `eval` shows them. Raises UserError if there are no images or no model, and, after all images, with
    predict.on_error=fail if one did not decode.
    """
    inputs = list_images(config.predict.images)
    predictor = open_predictor(config, choose_device(config.train.device))
    top = min(config.predict.top, len(predictor.classes))
    for entry in inputs.left_out:
        print(f"warning: left out: {entry.name}: {entry.reason}", file=sys.stderr)
    threads = num_threads(config.data, 1)
    with Results(top, config.predict.csv, is_kept=bool(config.out)) as results:
        _compile_for(inputs)
        started = time.perf_counter()
        for one in _classify(inputs, predictor, config, top, threads):
            results.add(one)
        seconds = time.perf_counter() - started
        problems = len(results.problems)
        if problems and config.predict.on_error == "fail":
            first = results.problems[0]
            raise UserError(
                f"predict.on_error=fail: {problems} of {inputs.num_images} images could not be classified, the first is "
                f"{first.name}: {first.problem}"
            )
    rate = inputs.num_images / seconds
    print(
        f"{results.num_classified:,} images classified by {predictor.name}, {problems:,} not, {rate:,.0f} images/s",
        file=sys.stderr,
    )
    return {
        "model": config.predict.model,
        "architecture": predictor.name,
        "view": vars(predictor.view),
        "num_classified": results.num_classified,
        "num_problems": problems,
        "wall_seconds": seconds,
        "images": results.entries,
    }


def _compile_for(inputs: Inputs) -> None:
    """Compiles the functions that the images need, if they are not compiled yet, and says so, as a loader does."""
    for group in inputs.groups:
        if isinstance(group, list):
            compile_ahead(None, (FILES,))
        else:
            compile_ahead(group.paths[0], ON_CPU)


def _classify(inputs: Inputs, predictor: Predictor, config: RunConfig, top: int, threads: int) -> Iterator[Classification]:
    """Classifies each image, in order."""
    maker = ViewMaker(
        predictor.view,
        batch_size=min(eval_batch_size(config.data), inputs.num_images),
        num_threads=threads,
        batches_ahead=config.data.batches_ahead,
        max_pixels=max_pixels(config.write),
    )
    is_listed = not config.predict.csv and not config.out
    bar = Bar(total=inputs.num_images, unit=" images", disable=is_listed or not sys.stderr.isatty(), leave=False)
    with bar, maker:
        for batch in maker.batches(inputs):
            yield from _classify_batch(batch, predictor, top)
            bar.update(len(batch.names))


def _classify_batch(batch: ViewBatch, predictor: Predictor, top: int) -> Iterator[Classification]:
    """Classifies each image of a batch."""
    shares: list[list[float]] = []
    labels: list[list[int]] = []
    if len(batch.images):
        with torch.inference_mode():
            likeliest = predictor.logits(batch.images).float().softmax(dim=1).topk(top, dim=1)
        shares, labels = likeliest.values.tolist(), likeliest.indices.tolist()
    rows = iter(zip(labels, shares, strict=True))
    for index, name in enumerate(batch.names):
        if index in batch.problems:
            yield Classification(name, problem=batch.problems[index])
            continue
        its_labels, its_shares = next(rows)
        names = [predictor.classes[label] for label in its_labels]
        yield Classification(name, names, its_shares, repaired=batch.repaired.get(index, ""))
