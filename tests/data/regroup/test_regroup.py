"""Betons made from betons hold the same stored bytes, pass verify, and are read by stock FFCV as their sources are."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffcv.fields
import ffcv.writer
import numpy as np
import pytest
import torch
from ffcv.reader import Reader

from deit_fast.__main__ import main
from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    FilterConfig,
    InspectConfig,
    MergeConfig,
    SplitConfig,
    SubsetConfig,
    UserError,
    VerifyConfig,
)
from deit_fast.data.examine.inspect import inspect_beton
from deit_fast.data.examine.verify import check_beton
from deit_fast.data.format import layout
from deit_fast.data.format.beton import manifest_path, open_beton, read_manifest
from deit_fast.data.format.identity import identity
from deit_fast.data.format.index import read_index
from deit_fast.data.load.loader import eval_loader
from deit_fast.data.regroup import copy
from deit_fast.data.regroup.filter import filter_betons
from deit_fast.data.regroup.merge import merge_betons
from deit_fast.data.regroup.split import split_betons
from deit_fast.data.regroup.subset import subset_betons
from tests.data.image_folders import convert, make_images, smooth_image
from tests.data.stored import stored_bytes

Sample = tuple[bytes, str, list[int]]


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PAGE_BYTES", 1 << 13)  # so that images are moved to fill pages
        patch.setattr(copy, "SAMPLES_PER_PART", 4)
        yield


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images, JPEG and raw, of cat, dog, elk."""
    folder = tmp_path_factory.mktemp("pets")
    make_images(folder / "images")
    convert(folder / "images", folder / "pets.beton", mode="proportion", seed=3)
    return folder / "pets.beton"


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7 larger JPEGs of auk, dog and elk, all odd, for they were PNGs named .jpg."""
    folder = tmp_path_factory.mktemp("birds")
    make_images(folder / "images", {"auk": 3, "dog": 2, "elk": 2}, 64, 80)
    for path in (folder / "images").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    convert(folder / "images", folder / "birds.beton", jpeg_quality=70)
    return folder / "birds.beton"


def samples(path: Path) -> list[Sample]:
    """Stored bytes, class name and tile lengths of each sample."""
    beton = open_beton(path)
    index = read_index(beton)
    assert index is not None and beton.classes is not None
    names = [beton.classes[label] for label in beton.labels]
    tiles = [index.tile_lengths(sample).tolist() for sample in range(beton.num_samples)]
    return list(zip(stored_bytes(path), names, tiles, strict=True))


def problems(path: Path) -> list[Any]:
    """What verify finds, every kind of check being possible."""
    found = check_beton(VerifyConfig(beton=str(path), num_workers=1))
    assert all(possible for kind, possible in found["checked"].items() if kind != "source")
    return list(found["problems"])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_merge_joins_classes_by_name(pets: Path, birds: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.beton"
    manifest = merge_betons(MergeConfig(betons=(str(pets), str(birds)), out=str(out)))
    assert samples(out) == samples(pets) + samples(birds)
    assert manifest["classes"] == ["auk", "cat", "dog", "elk"]
    assert open_beton(out).labels.tolist() == [1] * 5 + [2] * 4 + [3] * 3 + [0] * 3 + [2] * 2 + [3] * 2
    assert problems(out) == []
    assert files(tmp_path) == ["all.beton", "all.beton.json"]


def test_the_manifest_says_what_made_the_beton(
    pets: Path, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.beton"
    merge_betons(MergeConfig(betons=(str(pets), str(birds)), out=str(out)))
    manifest, of_pets, of_birds = map(read_manifest, (out, pets, birds))
    assert manifest is not None and of_pets is not None and of_birds is not None
    made = manifest["made"]
    assert made["by"] == "merge"
    assert [origin["beton"] for origin in made["betons"]] == [str(pets), str(birds)]
    assert [origin["images"] for origin in made["betons"]] == [identity(open_beton(path))["images"] for path in (pets, birds)]
    assert made["betons"][0]["source"] == of_pets["source"]
    assert manifest["num_odd"] == of_birds["num_odd"] == {"converted": 7, "repaired": 0, "skipped": 0}
    assert manifest["odd"] == [line | {"sample": line["sample"] + 12} for line in of_birds["odd"]]
    assert inspect_beton(InspectConfig(beton=str(out)))["num_samples"] == 19
    assert f"  merge of {pets} (12 of 12 images), {birds} (7 of 7 images)\n" in capsys.readouterr().out


def test_views_are_those_of_the_sources(pets: Path, birds: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.beton"
    merge_betons(MergeConfig(betons=(str(pets), str(birds)), out=str(out)))

    def views(path: Path) -> torch.Tensor:
        config = DataConfig(val=str(path), eval_batch_size=5, resolution=32, num_workers=1)
        loader = eval_loader(config, AugmentConfig(), rank=0, world_size=1, device=torch.device("cpu"))
        return torch.cat([batch.images[: len(batch.samples)].clone() for batch in loader])

    assert torch.equal(views(out), torch.cat([views(pets), views(birds)]))


def test_split_and_merged_again_is_the_same_beton(pets: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.beton"
    merge_betons(MergeConfig(betons=(str(pets),), out=str(first)))
    split_betons(SplitConfig(betons=(str(first),), shards=5))
    shards = sorted(tmp_path.glob("first-*.beton"))
    assert [path.name for path in shards] == [f"first-{number:05d}-of-00005.beton" for number in range(5)]
    assert [open_beton(path).num_samples for path in shards] == [2, 2, 3, 2, 3]
    assert all(open_beton(path).classes == ("cat", "dog", "elk") and problems(path) == [] for path in shards)
    merge_betons(MergeConfig(betons=tuple(map(str, shards)), out=str(tmp_path / "again.beton")))
    assert (tmp_path / "again.beton").read_bytes() == first.read_bytes()


def test_split_by_size(pets: Path, birds: Path, tmp_path: Path) -> None:
    limit = 9000
    config = SplitConfig(betons=(str(pets), str(birds)), out=str(tmp_path / "s.beton"), shard_gb=limit / 1e9)
    shards = [Path(path) for path in split_betons(config)]
    assert [sample for path in shards for sample in samples(path)] == samples(pets) + samples(birds)
    sizes = [open_beton(path).sizes.tolist() for path in shards]
    assert all(sum(of_one) <= limit or len(of_one) == 1 for of_one in sizes)
    assert all(sum(one) + other[0] > limit - 2000 for one, other in pairwise(sizes))


def test_a_split_goes_on_with_the_shards_that_are_missing(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SplitConfig(betons=(str(pets),), out=str(tmp_path / "s.beton"), shards=3)
    split_betons(config)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.beton")}
    (tmp_path / "s-00001-of-00003.beton").unlink()
    split_betons(config)
    assert "2 of 3 shards are complete" in capsys.readouterr().out
    now = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.beton")}
    assert [name for name in now if now[name] != times[name]] == ["s-00001-of-00003.beton"]


def test_subset_by_class_numbers_classes_anew(pets: Path, birds: Path, tmp_path: Path) -> None:
    wanted = [sample for sample in samples(pets) + samples(birds) if sample[1] in ("auk", "dog")]
    (tmp_path / "names.txt").write_text("auk\ndog\n")
    for number, (classes, labels) in enumerate(
        [(("auk", "dog"), "anew"), ((str(tmp_path / "names.txt"),), "anew"), (("dog", "auk"), "keep")]
    ):
        out = tmp_path / f"{number}.beton"
        subset_betons(SubsetConfig(betons=(str(pets), str(birds)), out=str(out), classes=classes, labels=labels))  # type: ignore[arg-type]
        assert samples(out) == wanted
        assert open_beton(out).classes == (("auk", "dog") if labels == "anew" else ("auk", "cat", "dog", "elk"))
        assert problems(out) == []


def test_subset_by_list_of_numbers_and_names(pets: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.txt", tmp_path / "out.beton"
    listed.write_text("7\n\nelk/0001.png\ncat/0000.png\n4\n")
    subset_betons(SubsetConfig(betons=(str(pets),), out=str(out), samples=str(listed)))
    assert samples(out) == [samples(pets)[sample] for sample in (0, 4, 7, 10)]
    assert problems(out) == []


@pytest.mark.parametrize("size", [{"count": 6}, {"share": 0.5}])
def test_subset_in_proportion(pets: Path, tmp_path: Path, size: dict[str, Any]) -> None:
    outs = [tmp_path / f"{number}.beton" for number in range(3)]
    for seed, out in zip((1, 1, 2), outs, strict=True):
        subset_betons(SubsetConfig(betons=(str(pets),), out=str(out), seed=seed, **size))
    assert np.bincount(open_beton(outs[0]).labels).tolist() in ([3, 2, 1], [2, 2, 2])
    assert outs[0].read_bytes() == outs[1].read_bytes() != outs[2].read_bytes()
    assert problems(outs[0]) == []


def test_filter_by_each_condition(pets: Path, birds: Path, tmp_path: Path) -> None:
    both = samples(pets) + samples(birds)
    modes = np.concatenate([open_beton(path).modes for path in (pets, birds)])
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"kind": "raw"}, modes == 1),
        ({"min_width": 65}, np.arange(19) >= 12),
        ({"max_height": 48}, np.arange(19) < 12),
        ({"min_height": 60, "kind": "jpeg", "action": "drop"}, np.arange(19) < 12),
        ({"names": ("dog/*", "*/0000.*")}, [name == "dog" or first for name, first in _names_and_firsts(both)]),
        ({"odd": ("converted", "repaired")}, np.arange(19) >= 12),
    ]
    for number, (options, wanted) in enumerate(cases):
        out = tmp_path / f"{number}.beton"
        filter_betons(FilterConfig(betons=(str(pets), str(birds)), out=str(out), **options))
        assert samples(out) == [both[sample] for sample in np.flatnonzero(wanted)], options
        assert problems(out) == []


def _names_and_firsts(both: list[Sample]) -> list[tuple[str, bool]]:
    """Class of each sample, and whether it is the first of its class in its source."""
    starts = (0, 5, 9, 12, 15, 17)
    return [(name, number in starts) for number, (_, name, _) in enumerate(both)]


class _Images:
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return smooth_image(index, 40 + index, 50), index % 3


def test_a_beton_of_stock_ffcv_gets_an_index(tmp_path: Path) -> None:
    stock, out = tmp_path / "stock.beton", tmp_path / "out.beton"
    fields = {"image": ffcv.fields.RGBImageField("jpg"), "label": ffcv.fields.IntField()}
    ffcv.writer.DatasetWriter(str(stock), fields, num_workers=1).from_indexed_dataset(_Images())
    merge_betons(MergeConfig(betons=(str(stock),), out=str(out)))
    assert stored_bytes(out) == stored_bytes(stock)
    assert [row["f1"] for row in Reader(str(out)).metadata] == [row["f1"] for row in Reader(str(stock)).metadata]
    assert open_beton(out).classes == ("0", "1", "2")
    assert problems(out) == []


def test_damage_is_not_copied(pets: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.beton"
    content = bytearray(pets.read_bytes())
    content[int(open_beton(pets).offsets[7]) + 100] ^= 1
    damaged.write_bytes(content)
    manifest_path(damaged).write_bytes(manifest_path(pets).read_bytes())
    with pytest.raises(UserError, match=r"damaged\.beton: sample 7 .* digest differs"):
        merge_betons(MergeConfig(betons=(str(damaged),), out=str(tmp_path / "out.beton")))
    assert "out.beton" not in files(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "--merge.out=o.beton"], "merge.betons is not set"),
        (["merge", "PETS"], "merge.out is not set"),
        (["merge", "PETS", "PETS", "--merge.out=o.beton"], "twice; want"),
        (["merge", "PETS", "--merge.out=PETS"], "is one of the betons to read"),
        (["merge", "PETS", "BIRDS", "BARE", "--merge.out=o.beton"], "bare.beton: has no class names"),
        (["split", "PETS", "--split.out=o.beton"], "split.shards or split.shard_gb"),
        (["split", "PETS", "--split.out=o.beton", "--split.shards=13"], "split.shards=13: want at most the 12"),
        (["subset", "PETS", "--subset.out=o.beton"], "nothing is chosen"),
        (["subset", "PETS", "--subset.out=o.beton", "--subset.classes=cow"], "'cow' is no class"),
        (["subset", "PETS", "--subset.out=o.beton", "--subset.count=13"], "subset.count=13: want at most the 12"),
        (["subset", "PETS", "--subset.out=o.beton", "--subset.samples=twice.txt"], "line 2: '3' stands twice"),
        (["subset", "PETS", "--subset.out=o.beton", "--subset.samples=far.txt"], "line 1: '12' is no sample; want 0 to 11"),
        (["subset", "PETS", "--subset.out=o.beton", "--subset.samples=name.txt"], "line 1: 'cow.png' is no name"),
        (
            ["subset", "BARE", "--subset.out=o.beton", "--subset.samples=name.txt"],
            "want the path of its source as subset.source",
        ),
        (["filter", "PETS", "--filter.out=o.beton"], "no condition is set"),
        (["filter", "PETS", "--filter.out=o.beton", "--filter.min_width=999"], "would have no images"),
        (["filter", "PETS", "--filter.out=o.beton", "--filter.odd=lost"], "'lost': want converted or repaired"),
        (["filter", "BARE", "--filter.out=o.beton", "--filter.odd=repaired"], "has no manifest that names odd images"),
    ],
)
def test_what_is_refused(
    pets: Path,
    birds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.beton").write_bytes(pets.read_bytes())
    for name, text in {"twice": "3\n3\n", "far": "12\n", "name": "cow.png\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    before = files(tmp_path)
    status = main(
        [word.replace("PETS", str(pets)).replace("BIRDS", str(birds)).replace("BARE", "bare.beton") for word in words]
    )
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert message in error
    assert files(tmp_path) == before


def test_a_repeated_class_name_is_ambiguous_between_other_lists(pets: Path, birds: Path, tmp_path: Path) -> None:
    cranes = tmp_path / "cranes.beton"
    cranes.write_bytes(pets.read_bytes())
    manifest = json.loads(manifest_path(pets).read_bytes())
    manifest_path(cranes).write_text(json.dumps(manifest | {"classes": ["crane", "dog", "crane"]}))
    with pytest.raises(UserError, match=r"has 2 classes named 'crane'"):
        merge_betons(MergeConfig(betons=(str(cranes), str(birds)), out=str(tmp_path / "out.beton")))
    merge_betons(MergeConfig(betons=(str(cranes),), out=str(tmp_path / "out.beton")))
    assert open_beton(tmp_path / "out.beton").classes == ("crane", "dog", "crane")


def test_a_disk_without_room_is_refused_at_once(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("deit_fast.data.convert.output.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"will take about .* are free there"):
        merge_betons(MergeConfig(betons=(str(pets),), out=str(tmp_path / "out.beton")))
    assert files(tmp_path) == []
