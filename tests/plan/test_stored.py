"""The price of stored labels, worked by hand from made-up measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deit_fast.plan.probe import Probes, Steps
from deit_fast.plan.run_counts import RunCounts
from deit_fast.plan.stored import stored_labels
from deit_fast.plan.table import _labels_line
from tests.plan.made_up import always, probes

COUNTS = RunCounts(steps_per_epoch=1000, epochs_at={32: 10}, num_evaluations=0, num_checkpoints=0)


def _probes(teacher: float, loader: float = 0.2) -> Probes:
    """A step of 1 s, some of which is the teacher's, and nothing else that takes time."""
    return replace(
        probes(compute=1.0, loader=loader), steps={32: Steps(0.0, always(0.0), always(1.0))}, first_batch=0.0,
        epoch_start=always(0.0), compile_evaluation=0.0, write=0.0, teacher=always(teacher),
    )  # fmt: skip


def test_a_teacher_of_most_of_a_step_pays_from_the_second_run_on() -> None:
    """10,000 steps of 1 s, or once 0.6 s a step of teaching, and 0.4 s a step of each run."""
    labels = stored_labels(COUNTS, _probes(0.6), setup=30.0)
    assert labels is not None
    assert labels.live == pytest.approx(10030)
    assert labels.stored == pytest.approx(4030)
    assert labels.teach == pytest.approx(6030)
    assert labels.pays_from == 2  # 12,060 s for two runs with the teacher, 14,090 for teaching and them


def test_the_loader_bounds_both_ways() -> None:
    """A batch takes 0.5 s: a step without the teacher waits for 0.1 s, and teaching is as slow as the teacher."""
    labels = stored_labels(COUNTS, _probes(0.6, loader=0.5), setup=0.0)
    assert labels is not None
    assert labels.stored == pytest.approx(10 * 1000 * 0.4 + 10 * 999 * 0.1, rel=1e-3)
    assert labels.teach == pytest.approx(6000)
    assert labels.pays_from == 2


def test_the_teacher_is_as_slow_where_the_student_sees_all_patches() -> None:
    """Of 10 epochs 4 are in the tail of model.patch_dropout, whose steps take 1.5 s, of which the teacher has 0.6 as well."""
    counts = replace(COUNTS, epochs_at={32: 6}, tail_at={32: 4})
    labels = stored_labels(counts, replace(_probes(0.6), tail={32: Steps(0.0, always(0.0), always(1.5))}), setup=0.0)
    assert labels is not None
    assert labels.live == pytest.approx(6000 + 6000)
    assert labels.stored == pytest.approx(6000 * 0.4 + 4000 * 0.9)
    assert labels.teach == pytest.approx(10000 * 0.6)


def test_where_the_loader_is_the_limit_labels_do_not_pay() -> None:
    labels = stored_labels(COUNTS, _probes(0.3, loader=1.0), setup=0.0)
    assert labels is not None
    assert labels.pays_from is None
    line = _labels_line({"teach": labels.teach, "stored": labels.stored, "pays_from": None}, [])
    assert line.endswith("a run: does not pay: the loader is the limit")


def test_the_line_has_both_prices() -> None:
    line = _labels_line({"teach": 3600.0, "stored": 1800.0, "pays_from": 3}, [{"machines": 2, "dollars_per_hour": 10.0}])
    assert line == "deit-fast teach 1:00:00 ($20.00), then 0:30:00 ($10.00) a run: pays from 3 runs on"


def test_without_a_teacher_there_is_nothing_to_price() -> None:
    assert stored_labels(COUNTS, replace(_probes(0.5), teacher=None), setup=0.0) is None
