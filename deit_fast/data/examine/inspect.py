"""Describes a beton, or several as one set, in a table, with the memory that loading them needs: `deit-fast inspect`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import InspectConfig, UserError, WriteConfig, in_words
from deit_fast.data.format.beton import JPEG_MODE, manifest_path, open_beton, read_manifest
from deit_fast.data.format.beton_set import BetonSet, open_set
from deit_fast.data.format.files import printable
from deit_fast.data.format.identity import files_of
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.forecast import forecast

_PRINTED_ODD_FILES = 10
_PRINTED_ORIGINS = 4


def inspect_beton(config: InspectConfig) -> dict[str, Any]:
    """Prints a description of a beton and of its manifest, if there is one, and returns it as a dictionary.

    Of several betons it describes the set, and lists the files instead of a manifest. Sizes and counts come from the betons
    themselves. Raises UserError if a beton's structure is damaged, or the file beside it is no manifest, or if betons cannot
    be joined.
    """
    if not config.beton:
        raise UserError("inspect.beton is not set: want the beton to describe")
    beton = open_set(config.beton, "inspect.beton")
    is_one = len(beton.stretches) == 1
    content = {"beton": beton.name, "fields": list(open_beton(beton.paths[0]).field_names), **_contents(beton)}
    tiles = _tiles(beton, images_of(beton).rows)
    memory, forecast_line = forecast(content, beton.num_classes)
    result = {**content, "tiles": tiles, "memory": memory}
    rows = [*_content_rows(content), *_tile_rows(tiles), ("data.decode=gpu", _on_gpu(content["num_jpeg"], tiles))]
    if is_one:
        result["manifest"] = read_manifest(beton.paths[0])
        rows += _rows_of_manifest(beton, result["manifest"])
    else:
        result["betons"] = _files(beton)
        rows += _file_rows(result["betons"]) + [("warning", line) for line in beton.remarks]
    rows += [("memory", forecast_line)]
    width = max(len(name) for name, _ in rows)
    print("\n".join(printable(f"{name:<{width}}   {value}") for name, value in rows))
    return result


def _files(beton: BetonSet) -> list[dict[str, Any]]:
    sizes = {str(path): path.stat().st_size for path in beton.paths}
    return [{**file, "file_bytes": sizes[file["path"]]} for file in files_of(beton)]


def _file_rows(files: list[dict[str, Any]]) -> list[tuple[str, str]]:
    rows = []
    for number, file in enumerate(files):
        times = f", shown {file['times']} times an epoch" if file["times"] > 1 else ""
        bare = "" if file["manifest"] else ", without a manifest"
        line = f"{file['path']}: {file['num_images']:,} images, {file['file_bytes'] / 1e6:,.1f} MB{times}{bare}"
        rows.append(("" if number else "files", line))
    return rows


def _rows_of_manifest(beton: BetonSet, manifest: dict[str, Any] | None) -> list[tuple[str, str]]:
    try:
        return _manifest_rows(manifest)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{manifest_path(beton.paths[0])}: lacks entries of a manifest ({type(error).__name__}: {error}); move it away, "
            "or convert the beton again"
        ) from error


def _contents(beton: BetonSet) -> dict[str, Any]:
    """Summary of the images' metadata."""
    labels, sizes = np.unique(beton.labels, return_counts=True)
    pixels = beton.widths.astype(np.int64) * beton.heights
    num_jpeg = int((beton.modes == JPEG_MODE).sum())
    return {
        "num_samples": beton.num_samples,
        "num_jpeg": num_jpeg,
        "num_raw": beton.num_samples - num_jpeg,
        "num_classes": beton.num_classes,
        "smallest_class": _class(beton, labels, sizes, int(np.argmin(sizes))),
        "largest_class": _class(beton, labels, sizes, int(np.argmax(sizes))),
        "num_empty_classes": beton.num_classes - len(labels),
        "file_bytes": sum(path.stat().st_size for path in beton.paths),
        "stored_bytes": {"total": int(beton.sizes.sum())} | _spread(beton.sizes),
        "width": _spread(beton.widths),
        "height": _spread(beton.heights),
        "max_pixels": int(pixels.max()),
    }


def _class(beton: BetonSet, labels: NDArray[np.int64], sizes: NDArray[np.int64], place: int) -> dict[str, Any]:
    label = int(labels[place])
    name = beton.classes[label] if beton.classes is not None else None
    return {"label": label, "name": name, "num_images": int(sizes[place])}


def _spread(values: NDArray[Any]) -> dict[str, Any]:
    return {"mean": float(values.mean()), "min": int(values.min()), "max": int(values.max())}


def _tiles(beton: BetonSet, rows: NDArray[np.void] | None) -> dict[str, Any] | None:
    """Summary of the JPEGs' tiles; None without an index."""
    if rows is None:
        return None
    is_tiled = rows["num_tiles"] > 0
    num_tiled, num_tiles = int(is_tiled.sum()), int(rows["num_tiles"].sum())
    if not num_tiled:
        return {"num_tiles": 0, "num_tiled_images": 0}
    shapes = np.stack([rows["interval"].astype(np.int64) * rows["mcu_width"], rows["mcu_height"]], axis=1)[is_tiled]
    shapes, counts = np.unique(shapes, axis=0, return_counts=True)
    typical = int(np.argmax(counts))
    in_tiles = int(beton.sizes[is_tiled].sum()) - int(rows["header_bytes"][is_tiled].sum())
    return {
        "num_tiles": num_tiles,
        "num_tiled_images": num_tiled,
        "tiles_per_image": num_tiles / num_tiled,
        "bytes_per_tile": in_tiles / num_tiles,
        "typical_tile": {
            "width": int(shapes[typical, 0]),
            "height": int(shapes[typical, 1]),
            "share_of_images": float(counts[typical] / num_tiled),
        },
    }


def _content_rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    stored, count = content["stored_bytes"], content["num_samples"]
    extra = [name for name in content["fields"] if name not in ("image", "label")]
    empty = f"; {content['num_empty_classes']:,} without images" if content["num_empty_classes"] else ""
    return [
        ("beton", content["beton"]),
        ("images", f"{count:,}: {content['num_jpeg']:,} JPEG, {content['num_raw']:,} raw"),
        *([("other fields", ", ".join(extra))] if extra else []),
        (
            "classes",
            f"{content['num_classes']:,}, with {_class_shown(content['smallest_class'])} to "
            f"{_class_shown(content['largest_class'])} images{empty}",
        ),
        ("file", f"{content['file_bytes'] / 1e6:,.1f} MB, {content['file_bytes'] / count:,.0f} bytes for each image"),
        ("stored image", f"{stored['mean']:,.0f} bytes on average, {stored['min']:,} to {stored['max']:,}"),
        *((side, f"{_pixels_shown(content[side])}") for side in ("width", "height")),
    ]


def _class_shown(content: dict[str, Any]) -> str:
    name = content["name"] if content["name"] is not None else f"label {content['label']}"
    return f"{content['num_images']:,} ({name})"


def _pixels_shown(spread: dict[str, Any]) -> str:
    return f"{spread['mean']:,.1f} pixels on average, {spread['min']:,} to {spread['max']:,}"


def _tile_rows(tiles: dict[str, Any] | None) -> list[tuple[str, str]]:
    if tiles is None:
        return [("tiles", "not known: the beton has no index, as those of stock FFCV have none")]
    if not tiles["num_tiles"]:
        return [("tiles", "none: no image is a JPEG")]
    shape = tiles["typical_tile"]
    return [
        (
            "tiles",
            f"{tiles['num_tiles']:,}, {tiles['tiles_per_image']:.1f} for each JPEG, {tiles['bytes_per_tile']:,.0f} bytes on "
            f"average; {shape['width']}x{shape['height']} pixels in {shape['share_of_images']:.0%} of the JPEGs",
        )
    ]


def _on_gpu(num_jpeg: int, tiles: dict[str, Any] | None) -> str:
    """What a GPU decodes, and how to let it decode the rest."""
    num_left = num_jpeg - (tiles["num_tiled_images"] if tiles else 0)
    if not num_left:
        return "all images are decoded on the GPU"
    which = "all JPEGs" if num_left == num_jpeg else f"{num_left:,} of {num_jpeg:,} JPEGs"
    return (
        f"{which} are left to the CPU: a GPU decodes tiles, and they have none; to make them, convert the images again: "
        "deit-fast write --source.path=IMAGES --write.out=FILE"
    )


def _manifest_rows(manifest: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Rows of facts that only the manifest has; earlier formats have fewer."""
    if manifest is None:
        return [("manifest", "none beside the beton: names of classes, settings and digests are not known")]
    rows = []
    source, settings, values = manifest.get("source"), manifest.get("settings"), manifest.get("pixel_values")
    if isinstance(source, dict):
        details = [f"{name} {source[name]}" for name in ("kind", "split", "subset", "seed") if source.get(name)]
        rows.append(("source", f"{source.get('path')} ({', '.join(details)})"))
    elif source:
        rows.append(("source", str(source)))
    if "made" in manifest:
        rows += [("made by", _made_shown(manifest["made"]))]
    if "shard" in manifest:
        rows.append(("shard", _shard_shown(manifest["shard"])))
    if "num_exact" in manifest:
        rows.append(("source's pixels", f"{manifest['num_exact']:,} images are JPEGs that were never decoded"))
    if isinstance(settings, dict):
        rows.append(("settings", _settings_shown(settings)))
    if isinstance(values, dict):
        mean, std = (" ".join(f"{value:.4f}" for value in values[name]) for name in ("mean", "std"))
        rows.append(("pixel mean, std", f"{mean}; {std} (red green blue, 1 is white; {values['num_images']:,} images)"))
    if "exif_orientations" in manifest:
        turned = [f"{n:,} of {value}" for value, n in manifest["exif_orientations"].items()]
        rows.append(("EXIF orientations", ", ".join(turned) or "none but 1, upright"))
    rows += _odd_rows(manifest)
    versions = manifest.get("versions")
    if isinstance(versions, dict):
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    digests = manifest.get("digests")
    has = f"of the structure and of {len(digests['blocks']):,} blocks" if isinstance(digests, dict) else "none"
    rows.append(("digests", has))
    if "wall_seconds" in manifest:
        rows.append(("conversion", f"{manifest['wall_seconds']:,.1f} s"))
    return rows


def _shard_shown(shard: dict[str, Any]) -> str:
    first, num_samples = shard["first_sample"], shard["num_samples"]
    which = f"images {first:,} to {first + num_samples - 1:,} of the {shard['num_source_samples']:,} of its source"
    return f"{shard['number']} of {shard['count']}, from 0: {which}"


def _made_shown(made: dict[str, Any]) -> str:
    """Which command made a beton, from which others."""
    origins = [f"{origin['beton']} ({origin['num_chosen']:,} of {origin['num_samples']:,} images)" for origin in made["betons"]]
    more = f" and {len(origins) - _PRINTED_ORIGINS:,} more" if len(origins) > _PRINTED_ORIGINS else ""
    return f"{made['by']} of {', '.join(origins[:_PRINTED_ORIGINS])}{more}"


def _settings_shown(settings: dict[str, Any]) -> str:
    """The settings that differ from the defaults."""
    defaults = dataclasses.asdict(WriteConfig())
    changed = {name: value for name, value in settings.items() if name != "out" and defaults.get(name) != value}
    return ", ".join(f"{name}={in_words(f'write.{name}', value)}" for name, value in changed.items()) or "the defaults"


def _odd_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    counts, odd = manifest.get("num_odd"), manifest.get("odd")
    if not isinstance(counts, dict) or not isinstance(odd, list):
        return []
    rows = [("odd files", ", ".join(f"{count:,} {what}" for what, count in counts.items()))]
    rows += [("", f"{line['name']}: {line['what']}: {line['reason']}") for line in odd[:_PRINTED_ODD_FILES]]
    if len(odd) > _PRINTED_ODD_FILES:
        rows.append(("", f"… and {len(odd) - _PRINTED_ODD_FILES:,} more"))
    return rows
