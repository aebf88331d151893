"""WebDataset shards give each key's image and label, in the order of the tars; incomplete keys are named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from tests.data.convert.sources.samples import contents, contents_in_processes, jpeg, tar_bytes, write_files


def open_shards(path: Path | str, **options: Any) -> Source:
    return open_source(SourceConfig(path=str(path), kind="webdataset", **options))


def shard(start: int, count: int = 5) -> bytes:
    files = {}
    for number in range(start, start + count):
        files[f"./sub.dir/{number:05d}.cls"] = b"%d\n" % (number % 4)
        files[f"./sub.dir/{number:05d}.JPG"] = jpeg(number)
        files[f"./sub.dir/{number:05d}.txt"] = b"a caption"
    return tar_bytes(files)


def test_gives_what_tarfile_gives(tmp_path: Path) -> None:
    write_files(tmp_path, {"train-1.tar": shard(5), "train-0.tar": shard(0), "val-0.tar": shard(50)})
    source = open_shards(tmp_path)
    expected = []
    for name in ("train-0.tar", "train-1.tar"):
        with tarfile.open(tmp_path / name) as tar:
            read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        images = [file for file in read if file.endswith(".JPG")]
        expected += [(f"{name}/{file[2:]}", int(read[f"{file[:-4]}.cls"]), read[file]) for file in images]
    assert [(source.name(n), source.labels[n], source.read(n)) for n in range(source.num_samples)] == expected
    assert source.classes == ("0", "1", "2", "3")
    assert open_shards(tmp_path, split="val").read(0) == jpeg(50)
    assert open_shards(tmp_path / "train-1.tar").read(0) == jpeg(5)
    assert open_shards(f"{tmp_path}/*-0.tar").num_samples == 5


def test_many_shards_some_of_them_compressed_are_read_by_processes_at_once(tmp_path: Path) -> None:
    for number in range(20):
        content = shard(number * 3, 3)
        if number % 7 == 3:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=io.BytesIO(content)) as tar, tarfile.open(fileobj=buffer, mode="w:gz") as packed:
                for member in tar:
                    packed.addfile(member, tar.extractfile(member))
            content = buffer.getvalue()
        (tmp_path / f"{number:03d}.tar").write_bytes(content)
    source = open_shards(tmp_path)
    assert [source.read(n) for n in range(60)] == [jpeg(number) for number in range(60)]
    assert source.read(0) == jpeg(0)
    assert contents_in_processes(source) == [contents(source)] * 3
    source.close()


@pytest.mark.parametrize("key", ["label", "cls", "class_id"])
def test_labels_may_be_in_json(tmp_path: Path, key: str) -> None:
    document = json.dumps({"file": "x", key: 2}).encode()
    write_files(
        tmp_path, {"0.tar": tar_bytes({"a.json": document, "a.png": b"p", "b.webp": b"q", "b.cls": b"1", "b.json": b"{"})}
    )
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    source = open_shards(tmp_path, classes=str(tmp_path / "names.txt"))
    assert source.labels.tolist() == [2, 1]
    assert source.classes == ("x", "y", "z")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b""}, r"0\.tar: key 'a' has no label: want a\.cls or a\.json"),
        ({"a.cls": b"1", "a.txt": b""}, r"0\.tar: key 'a' has no image"),
        ({"a.jpg": b"", "a.png": b"", "a.cls": b"1"}, r"0\.tar: key 'a' has 'a\.jpg' and 'a\.png': want one"),
        ({"a.jpg": b"", "a.cls": b"1", "a.CLS": b"2"}, r"0\.tar: key 'a' has 'a\.cls' and 'a\.CLS'"),
        ({"a.jpg": b"", "a.cls": b"dog"}, r"the class 'dog' is none of the 2 class names of .*names\.txt"),
        ({"a.jpg": b"", "a.cls": b"-1"}, r"0\.tar: 'a\.cls' has no label: want a number from 0 on, or the name of a class$"),
        ({"a.jpg": b"", "a.cls": b" \n"}, "want a number from 0 on"),
        ({"a.jpg": b"", "a.cls": b"\xff"}, "want a number from 0 on"),
        ({"a.jpg": b"", "a.json": b'{"label": null}'}, "name of a class under label, cls or class_id"),
        ({"a.jpg": b"", "a.json": b'{"label": true}'}, "want a number from 0 on"),
        ({"a.jpg": b"", "a.json": b"[" * 99_999}, "want a number from 0 on"),
        ({"a.jpg": b"", "a.cls": b"1", "b.jpg": b"", "b.cls": b"x"}, r"has the labels 1 and 'x': want numbers, or names"),
        ({"a.v1.jpg": b"", "a.v1.cls": b"1", "a.v2.jpg": b""}, r"key 'a\.v2' has no label: want a\.v2\.cls"),
        ({"a.v1.jpg": b"", "a.v1.cls": b"1", "a.v2.cls": b""}, r"key 'a\.v2' has no image"),
        ({"a.v1.jpg": b"", "a.v2.jpg": b"", "a.cls": b"1"}, r"key 'a' has 'a\.v1\.jpg' and 'a\.v2\.jpg': want one"),
        ({"a.jpg": b"", "a.cls": b"3"}, r"has the label 3, and .*names\.txt 2 class names"),
        ({"readme": b""}, "1 shards without images"),
    ],
)
def test_incomplete_keys_are_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_files(tmp_path, {"0.tar": tar_bytes(files), "names.txt": b"x\ny\n"})
    with pytest.raises(UserError, match=message) as error:
        open_shards(tmp_path, classes=str(tmp_path / "names.txt"))
    assert "\n" not in str(error.value)


def names_and_labels(source: Source) -> dict[str, int]:
    return {source.name(n): int(source.labels[n]) for n in range(source.num_samples)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"photo.v2.jpg": b"", "photo.v2.cls": b"2"}, {"photo.v2.jpg": 2}),
        ({"p.v1.jpg": b"", "p.v2.jpg": b"", "p.v1.cls": b"1", "p.v2.cls": b"2"}, {"p.v1.jpg": 1, "p.v2.jpg": 2}),
        ({"1.jpg": b"", "1.seg.png": b"", "1.cls": b"3", "1.meta.json": b"{", "1.txt": b""}, {"1.jpg": 3}),
        ({"1.image.jpg": b"", "1.cls": b"1"}, {"1.image.jpg": 1}),
        ({"1.jpg": b"", "1.seg.png": b"", "1.label.cls": b"1"}, {"1.jpg": 1}),
        ({"1.jpg": b"", "1.cls": b"1", "1.2.jpg": b"", "1.2.cls": b"2"}, {"1.jpg": 1, "1.2.jpg": 2}),
        ({"a.b/1.jpg": b"", "a.b/1.json": b'{"label": "2"}'}, {"a.b/1.jpg": 2}),
    ],
)
def test_names_with_dots_lose_no_sample(tmp_path: Path, files: dict[str, bytes], expected: dict[str, int]) -> None:
    """webdataset's key ends at the first dot (webdataset#237, datasets#7150): people's names have dots as well."""
    write_files(tmp_path, {"0.tar": tar_bytes(files)})
    source = open_shards(tmp_path)
    assert names_and_labels(source) == {f"0.tar/{name}": label for name, label in expected.items()}
    accounts = source.accounts()
    assert (accounts.num_seen, accounts.num_parts, accounts.left_out) == (len(files), len(files) - len(expected), [])


def test_labels_may_be_class_names(tmp_path: Path) -> None:
    files = {"a.jpg": b"", "a.cls": b"zebra\n", "b.jpg": b"", "b.json": b'{"label": "ant"}'}
    write_files(tmp_path, {"0.tar": tar_bytes(files), "names.txt": b"zebra\ncow\nant\n"})
    source = open_shards(tmp_path)
    assert (source.classes, source.labels.tolist()) == (("ant", "zebra"), [1, 0])
    named = open_shards(tmp_path, classes=str(tmp_path / "names.txt"))
    assert (named.classes, named.labels.tolist()) == (("zebra", "cow", "ant"), [0, 2])


def test_links_in_a_shard_are_followed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in {"set/1.jpg": b"one", "set/1.cls": b"1", "set/4.cls": b"4"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        links = {"set/2.jpg": "set/1.jpg", "set/2.cls": "1.cls", "again": "set", "set/4.jpg": "gone.jpg"}
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.LNKTYPE if name == "set/2.jpg" else tarfile.SYMTYPE
            member.linkname = target
            tar.addfile(member)
    (tmp_path / "0.tar").write_bytes(buffer.getvalue())
    source = open_shards(tmp_path)
    keys = ["set/1", "set/2", "again/1", "again/2", "again/4", "set/4"]
    assert [source.name(n) for n in range(6)] == [f"0.tar/{key}.jpg" for key in keys]
    assert source.labels.tolist() == [1, 1, 1, 1, 4, 4]
    assert [source.read(n) for n in range(4)] == [b"one"] * 4
    for broken in (4, 5):
        with pytest.raises(OSError, match=r"4\.jpg is a link that leads nowhere"):
            source.read(broken)


@pytest.mark.slow
def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{number:02d}.tar": shard(number) for number in range(20)})
    (tmp_path / "13.tar").write_bytes(shard(13)[:3000])
    with pytest.raises(UserError, match=r"13\.tar: .*damaged"):
        open_shards(tmp_path)
