"""Files of labels: what is written is read back, what is missing or damaged is told, and a killed writer loses a block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deit_fast.config import RankError, UserError
from deit_fast.labels.file import Header, LabelsFile, LabelsWriter, read_header

HEADER = Header(
    of="mixed", top=3, num_classes=1000, num_epochs=2, num_positions=70, block_size=32,
    belongs={"data.resolution": 224, "augment.crop_scale": [0.08, 1.0]}, teachers=[{"name": "regnety_160", "digest": "ab"}],
    facts={"device": "cpu"},
)  # fmt: skip


def _answers(header: Header, seed: int = 0) -> NDArray[np.void]:
    """Answers (epochs, positions)."""
    draw = np.random.default_rng(seed)
    answers = np.empty((header.num_epochs, header.num_positions), header.entry)
    answers["classes"] = draw.integers(0, header.num_classes, answers["classes"].shape)
    if header.top > 1:
        answers["probabilities"] = draw.random(answers["probabilities"].shape)
    return answers


def _fill(writer: LabelsWriter, answers: NDArray[np.void], most: int = 10**9) -> None:
    for epoch, blocks in enumerate(writer.missing()):
        for block in blocks:
            if most == 0:
                return
            most -= 1
            positions = writer.header.positions(block)
            writer.write(epoch, block, answers[epoch, positions.start : positions.stop])


def _written(path: Path, header: Header = HEADER) -> NDArray[np.void]:
    answers = _answers(header)
    writer = LabelsWriter(path, header)
    _fill(writer, answers)
    writer.finish()
    return answers


@pytest.mark.parametrize("top", [1, 3])
def test_answers_come_back(tmp_path: Path, top: int) -> None:
    header = replace(HEADER, top=top)
    answers = _written(tmp_path / "a.dfl", header)
    file = LabelsFile(tmp_path / "a.dfl")
    assert file.header == header
    assert file.header.facts == {"device": "cpu"}
    for epoch, first, count in ((0, 0, 70), (1, 30, 5), (1, 69, 1), (0, 31, 2)):
        assert (file.read(epoch, first, count) == answers[epoch, first : first + count]).all()
    assert header.entry.itemsize == {1: 2, 3: 12}[top]
    assert (tmp_path / "a.dfl").stat().st_size == header.num_bytes == 2 * 4096 + 2 * 70 * header.entry.itemsize


def test_a_writer_goes_on_where_another_ended(tmp_path: Path) -> None:
    path, answers = tmp_path / "a.dfl", _answers(HEADER)
    first = LabelsWriter(path, HEADER)
    _fill(first, answers, most=4)
    with pytest.raises(UserError, match=r"a\.dfl: no such file; .*a\.dfl\.part is incomplete"):
        LabelsFile(path)
    again = LabelsWriter(path, replace(HEADER, facts={"device": "cuda"}))  # facts decide on nothing
    assert again.missing() == [[], [1, 2]]
    _fill(again, answers)
    again.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["a.dfl"]
    assert (LabelsFile(path).read(1, 0, 70) == answers[1]).all()
    whole = LabelsWriter(path, HEADER)
    assert whole.is_whole and whole.missing() == [[], []]


def test_a_block_whose_bytes_are_not_those_of_its_hash_is_written_again(tmp_path: Path) -> None:
    """As after a power loss that kept the hash and lost the answers."""
    path, answers = tmp_path / "a.dfl", _answers(HEADER)
    writer = LabelsWriter(path, HEADER)
    _fill(writer, answers)
    writer.flush()
    _flip(writer.part, HEADER.num_bytes - 1)
    assert LabelsWriter(path, HEADER).missing() == [[], [2]]


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_a_flipped_byte_is_found_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dfl"
    _written(path)
    digest = LabelsFile(path).digest
    _flip(path, 8192 + (70 + 40) * HEADER.entry.itemsize + 1)  # position 40 of the second epoch
    damaged = LabelsFile(path)
    damaged.read(1, 0, 32)
    damaged.read(0, 0, 70)
    for first, count in ((32, 1), (20, 20), (0, 70)):
        with pytest.raises(RankError, match=r"a\.dfl: damaged in epoch 2, views 32 to 63; want another copy"):
            damaged.read(1, first, count)
    assert damaged.digest == digest  # of the hashes; the answers are checked by them


@pytest.mark.parametrize("place", [12, 60, 4096 + 5])
def test_a_flipped_byte_before_the_answers_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.dfl"
    _written(path)
    _flip(path, place)
    with pytest.raises(UserError, match=r"a\.dfl: (its header is damaged|damaged in epoch 1, views 0 to 31)"):
        LabelsFile(path).read(0, 0, 1)


@pytest.mark.parametrize("place", range(0, 300, 7))
def test_no_flipped_byte_of_the_header_is_taken(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.dfl"
    _written(path)
    _flip(path, place)
    with pytest.raises(UserError, match=r"a\.dfl: (its header is damaged|is not a file of labels)"):
        read_header(path)


def test_files_of_other_kinds_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file$"):
        LabelsFile(tmp_path / "none.dfl")
    (tmp_path / "text").write_text("labels")
    with pytest.raises(UserError, match="is not a file of labels; want one that deit-fast teach has written"):
        LabelsFile(tmp_path / "text")
    _written(tmp_path / "a.dfl")
    with (tmp_path / "a.dfl").open("r+b") as file:
        file.truncate(HEADER.num_bytes - 1)
    with pytest.raises(UserError, match=f"has {HEADER.num_bytes - 1:,} of {HEADER.num_bytes:,} bytes"):
        LabelsFile(tmp_path / "a.dfl")


@pytest.mark.parametrize("is_whole", [False, True])
def test_other_labels_of_that_name_stay(tmp_path: Path, is_whole: bool) -> None:
    path = tmp_path / "a.dfl"
    if is_whole:
        _written(path)
    else:
        LabelsWriter(path, HEADER)
    other = replace(HEADER, belongs={**HEADER.belongs, "data.resolution": 192})
    with pytest.raises(UserError, match=r"has data\.resolution=224, not 192; want another teach\.out, or delete that file"):
        LabelsWriter(path, other)
    with pytest.raises(UserError, match=r"has top=3, not 1"):
        LabelsWriter(path, replace(HEADER, top=1))


def test_a_place_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^teach\.out=.*a\.dfl: cannot be written \(.*\); want [0-9,]+ bytes on a disk$"):
        LabelsWriter(tmp_path / "file" / "a.dfl", HEADER)
