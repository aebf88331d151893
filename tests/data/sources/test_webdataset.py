"""WebDataset shards give each key's image and label, in the order of the tars; incomplete keys are named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.sources import open_source
from deit_fast.data.sources.base import Source
from tests.data.sources.samples import contents, contents_in_processes, jpeg, tar_bytes, write_files


def open_shards(path: Path | str, **options: str) -> Source:
    return open_source(SourceConfig(path=str(path), kind="webdataset", **options))  # type: ignore[arg-type]


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
        ({"a.jpg": b"", "a.cls": b"dog"}, r"0\.tar: key 'a': 'a\.cls' has no label: want a number from 0 on$"),
        ({"a.jpg": b"", "a.cls": b"-1"}, "want a number from 0 on$"),
        ({"a.jpg": b"", "a.json": b'{"label": "dog"}'}, "number from 0 on under label, cls or class_id"),
        ({"a.jpg": b"", "a.json": b'{"label": true}'}, "number from 0 on under"),
        ({"a.jpg": b"", "a.json": b"[" * 99_999}, "number from 0 on under"),
        ({"a.jpg": b"", "a.cls": b"3"}, r"has the label 3, and .*names\.txt 2 class names"),
        ({"readme": b""}, "1 shards without images"),
    ],
)
def test_incomplete_keys_are_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_files(tmp_path, {"0.tar": tar_bytes(files), "names.txt": b"x\ny\n"})
    with pytest.raises(UserError, match=message) as error:
        open_shards(tmp_path, classes=str(tmp_path / "names.txt"))
    assert "\n" not in str(error.value)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{number:02d}.tar": shard(number) for number in range(20)})
    (tmp_path / "13.tar").write_bytes(shard(13)[:3000])
    with pytest.raises(UserError, match=r"13\.tar: .*damaged"):
        open_shards(tmp_path)
