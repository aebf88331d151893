"""The data sets of transfer learning are read as torchvision reads them, as folders and as archives."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.sources.cifar import cifar_kind
from tests.data.convert.sources.samples import contents, contents_in_processes, jpeg, write_files

CIFAR = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{n}" for n in range(1, 6)], ["test_batch"], "batches.meta"),
    "cifar100": ("cifar-100-python", ["train"], ["test"], "meta"),
}


def open_kind(path: Path, kind: str, split: str = "train") -> Source:
    return open_source(SourceConfig(path=str(path), kind=kind, split=split))  # type: ignore[arg-type]


def matlab(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def pack(folder: Path, archive: Path) -> None:
    """Packs a folder under its name, and removes it."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)


def make_cifar(root: Path, kind: str) -> Path:
    folder, train, test, meta = CIFAR[kind]
    prefix, count = ("fine_", 100) if kind == "cifar100" else ("", 10)
    random = np.random.default_rng(0)
    files: dict[str, dict[str, Any]] = {meta: {f"{prefix}label_names": [f"class {n}" for n in range(count)]}}
    for name in train + test:
        labels = random.integers(0, count, 6).tolist()
        files[name] = {
            "data": random.integers(0, 256, (6, 3072), dtype=np.uint8),
            f"{prefix}labels": labels,
            "coarse_labels": [0] * 6,
            "filenames": [b"a.png"] * 6,
        }
    write_files(root / folder, {name: pickle.dumps(content, protocol=2) for name, content in files.items()})
    return root / folder


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_cifar_is_what_torchvision_reads(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cifar(tmp_path, kind)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: True)
    reader = torchvision.datasets.CIFAR10 if kind == "cifar10" else torchvision.datasets.CIFAR100
    for split in ("train", "test", "val"):
        theirs, ours = reader(str(tmp_path), train=split == "train"), open_kind(folder, kind, split)
        assert list(ours.classes) == theirs.classes
        assert ours.labels.tolist() == theirs.targets
        np.testing.assert_array_equal([ours.read(n) for n in range(ours.num_samples)], theirs.data)
    expected = contents(open_kind(tmp_path, kind))
    assert contents_in_processes(open_kind(folder, kind)) == [expected] * 3
    assert expected[-1][0] == ("data_batch_5/5" if kind == "cifar10" else "train/5")
    assert cifar_kind(folder) == cifar_kind(tmp_path) == kind

    archive = tmp_path / f"{kind.replace('cifar', 'cifar-')}-python.tar.gz"
    pack(folder, archive)
    assert contents(open_kind(archive, kind)) == contents(open_kind(tmp_path, kind)) == expected
    assert cifar_kind(archive) == kind


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return open, ("evil", "w")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil()), r"data_batch_3: not a file of CIFAR, or damaged: it asks for (_?io)\.open"),
        (b"", r"data_batch_3: not a file of CIFAR"),
        (pickle.dumps([1]), r"data_batch_3: holds a list"),
        (pickle.dumps({"data": 1}), r"data_batch_3: has no data of 3072 bytes"),
        (
            pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, 2),
            r"has 2 images and not as many labels",
        ),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, 2), r"image 12 has the label 10: want 0 to 9"),
        (None, r"has 0 files 'data_batch_3': want one"),
    ],
)
def test_files_that_are_not_cifar_are_named(
    tmp_path: Path, content: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    batch = make_cifar(tmp_path, "cifar10") / "data_batch_3"
    batch.unlink() if content is None else batch.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_kind(tmp_path, "cifar10")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "evil").exists()


def test_cifar_that_is_missing_or_both_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no CIFAR: want the path of one cifar-10-python\.tar\.gz"):
        cifar_kind(tmp_path)
    with pytest.raises(UserError, match=r"no cifar-10-python\.tar\.gz or cifar-10-batches-py there"):
        open_kind(tmp_path, "cifar10")
    make_cifar(tmp_path, "cifar10")
    make_cifar(tmp_path, "cifar100")
    with pytest.raises(UserError, match="has both CIFAR-10 and CIFAR-100"):
        cifar_kind(tmp_path)


def make_flowers(root: Path) -> Path:
    files = {f"jpg/image_{n:05d}.jpg": jpeg(n) for n in range(1, 21)}
    files["imagelabels.mat"] = matlab(labels=np.array([[102 - n % 5 for n in range(20)]], dtype=np.uint8))
    split = {"trnid": [[4, 2, 9]], "valid": [[1, 20]], "tstid": [[n for n in range(3, 20) if n not in (4, 9)]]}
    files["setid.mat"] = matlab(**{name: np.array(ids, dtype=np.uint16) for name, ids in split.items()})
    return write_files(root / "flowers-102", files)


def test_flowers_are_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_flowers(tmp_path)
    monkeypatch.setattr(torchvision.datasets.flowers102, "check_integrity", lambda path, md5=None: True)
    for split in ("train", "val", "test"):
        theirs = torchvision.datasets.Flowers102(str(tmp_path), split)
        ours = open_kind(tmp_path, "flowers102", split)
        assert list(ours.classes) == theirs.classes
        assert ours.labels.tolist() == theirs._labels
        assert [ours.name(n) for n in range(ours.num_samples)] == [f"jpg/{path.name}" for path in theirs._image_files]
        assert [ours.read(n) for n in range(ours.num_samples)] == [path.read_bytes() for path in theirs._image_files]
    both = contents(open_kind(root, "flowers102", "train")) + contents(open_kind(root, "flowers102", "val"))
    assert contents(open_kind(root, "flowers102", "trainval")) == both

    pack(root / "jpg", root / "102flowers.tgz")
    packed = open_kind(root, "flowers102", "trainval")
    assert contents(packed) == both
    assert contents_in_processes(packed) == [contents(packed)] * 3


def make_cars(root: Path) -> Path:
    files: dict[str, bytes] = {}
    kinds = [(name, "O") for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for part, start in (("train", 0), ("test", 50)):
        records = [(1, 2, 3, 4, (7 * n) % 3 + 1, f"{n:05d}.jpg") for n in (2, 1, 3, 5, 4)]
        files |= {f"cars_{part}/{record[-1]}": jpeg(start + int(record[-1][:5])) for record in records}
        annotations = matlab(annotations=np.array(records, dtype=kinds).reshape(1, -1))
        files["devkit/cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat"] = annotations
    names = np.array(["AM General Hummer", "Acura RL 2012", "Volvo 240"], dtype=object).reshape(1, -1)
    files["devkit/cars_meta.mat"] = matlab(class_names=names)
    return write_files(root / "stanford_cars", files)


def test_cars_are_what_torchvision_reads(tmp_path: Path) -> None:
    root = make_cars(tmp_path)
    expected = {}
    for split in ("train", "test"):
        theirs, ours = torchvision.datasets.StanfordCars(str(tmp_path), split), open_kind(tmp_path, "cars", split)
        assert list(ours.classes) == theirs.classes
        assert [(str(root / ours.name(n)), ours.labels[n]) for n in range(5)] == theirs._samples
        assert [ours.read(n) for n in range(5)] == [Path(path).read_bytes() for path, _ in theirs._samples]
        expected[split] = contents(ours)
    assert contents(open_kind(root, "cars", "val")) == expected["test"]

    pack(root / "cars_train", root / "cars_train.tgz")
    shutil.move(root / "cars_test_annos_withlabels.mat", root / "devkit")
    pack(root / "devkit", root / "car_devkit.tgz")
    assert contents(open_kind(root, "cars", "train")) == expected["train"]
    assert contents(open_kind(root, "cars", "test")) == expected["test"]


def make_inaturalist(root: Path, year: int) -> tuple[Path, dict[str, list[tuple[str, int, bytes]]]]:
    """The folder, and name, label and bytes of the images of each split."""
    expected: dict[str, list[tuple[str, int, bytes]]] = {}
    ids = [30, 4, 17]  # of the categories, in no order; labels go by the sorted ones
    for split, start in (("train", 0), ("val", 40)):
        images = [
            (f"train_val{year}/Aves/{ids[n % 3]}/{n:04x}.jpg", ids[n % 3], jpeg(n), n) for n in range(start + 7, start, -1)
        ]
        document = {
            "images": [{"id": number, "file_name": name, "width": 9} for name, _, _, number in images],
            "annotations": [{"id": 9, "image_id": number, "category_id": label} for _, label, _, number in reversed(images)],
            "categories": [{"id": number, "name": f"species {number}"} for number in ids],
        }
        files = {name: content for name, _, content, _ in images}
        write_files(root, {f"{split}{year}.json": json.dumps(document).encode(), **files})
        expected[split] = [(name, sorted(ids).index(label), content) for name, label, content, _ in images]
    return root, expected


@pytest.mark.parametrize("year", [2018, 2019])
@pytest.mark.slow
def test_inaturalist_is_what_its_annotations_say(tmp_path: Path, year: int) -> None:
    root, expected = make_inaturalist(tmp_path, year)
    for split in ("train", "val"):
        source = open_kind(root, f"inat{year}", split)
        assert source.classes == ("species 4", "species 17", "species 30")
        found = [(source.name(n), int(source.labels[n]), source.read(n)) for n in range(7)]
        assert found == expected[split]
    pack(root / f"train_val{year}", root / f"train_val{year}.tar.gz")
    with tarfile.open(root / f"val{year}.json.tar.gz", "w:gz") as tar:
        tar.add(root / f"val{year}.json", f"val{year}.json")
    (root / f"val{year}.json").unlink()
    source = open_kind(root, f"inat{year}", "val")
    assert [(source.name(n), int(source.labels[n]), source.read(n)) for n in range(7)] == expected["val"]
    assert contents_in_processes(source) == [contents(source)] * 3


MAKE: dict[str, Callable[[Path], Any]] = {
    "flowers102": make_flowers,
    "cars": make_cars,
    "inat2018": lambda root: make_inaturalist(root / "inat", 2018),
}


@pytest.mark.parametrize(
    ("kind", "split", "damage", "message"),
    [
        ("flowers102", "train", lambda root: (root / "setid.mat").unlink(), r"setid\.mat: cannot be read: No such file"),
        ("flowers102", "train", lambda root: (root / "setid.mat").write_bytes(b"x" * 300), r"setid\.mat: not a MATLAB file"),
        (
            "flowers102",
            "train",
            lambda root: (root / "setid.mat").write_bytes(matlab(other=1)),
            r"setid\.mat: has no variable 'trnid', but other",
        ),
        (
            "flowers102",
            "train",
            lambda root: (root / "imagelabels.mat").write_bytes(matlab(labels=[1, 2, 3])),
            r"setid\.mat: names image 4, and imagelabels\.mat has 3 labels",
        ),
        (
            "flowers102",
            "test",
            lambda root: (root / "jpg/image_00007.jpg").unlink(),
            r"1 of 15 files are missing, the first is 'jpg/image_00007\.jpg'",
        ),
        ("flowers102", "train", lambda root: shutil.rmtree(root / "jpg"), r"want jpg/ or 102flowers\.tgz or 102flowers\.tar"),
        ("cars", "train", lambda root: shutil.rmtree(root / "devkit"), r"devkit: no such folder; want it, or car_devkit\.tgz"),
        (
            "cars",
            "test",
            lambda root: (root / "cars_test_annos_withlabels.mat").unlink(),
            r"has 0 files 'cars_test_annos_withlabels\.mat'",
        ),
        (
            "cars",
            "train",
            lambda root: (root / "devkit/cars_train_annos.mat").write_bytes(matlab(annotations=[1, 2])),
            "records have no field 'class'",
        ),
        (
            "cars",
            "train",
            lambda root: (root / "devkit/cars_meta.mat").write_bytes(matlab(class_names=np.array(["a", "b"], dtype=object))),
            "has the label 2: want 0 to 1",
        ),
        ("inat2018", "test", lambda root: None, "iNaturalist 2018 has no labels for it"),
        ("inat2018", "train", lambda root: (root / "train2018.json").unlink(), r"train2018\.json: cannot be read"),
        ("inat2018", "train", lambda root: (root / "train2018.json").write_text("{}"), r"train2018\.json: .*no 'annotations'"),
        ("inat2018", "train", lambda root: (root / "train2018.json").write_text("[1"), r"train2018\.json: not an annotations"),
        (
            "inat2018",
            "train",
            lambda root: (root / "train2018.json").write_text(
                json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []})
            ),
            r"train2018\.json: image 'a\.jpg' has no annotation",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, kind: str, split: str, damage: Callable[[Path], object], message: str) -> None:
    MAKE[kind](tmp_path)
    root = next(tmp_path.iterdir())
    damage(root)
    with pytest.raises(UserError, match=message) as error:
        open_kind(root, kind, split)
    assert "\n" not in str(error.value)
