"""Operations on views, models, sources and optimisers are added as CONTRIBUTING.md says, to a copy of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deit_fast.data.format.beton import open_beton
from tests.adding import add_at_end, add_before, copy_of_package, output, replace

pytestmark = pytest.mark.slow

LEVEL = """

@compiled()
def darkened(level, argument):
    return np.int32(max(np.int32(level) - np.int32(argument), 0))
"""
LOOP = """

@compiled()
def swap(levels):
    for i in range(0, levels.size, _CHANNELS):
        levels[i], levels[i + 2] = levels[i + 2], levels[i]
"""
FORM = """@device_function
def _swap(levels, count, first, step):
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        store_pixel(levels, i, blue, green, red)


"""
MAGNITUDE = """

@level_function
def darkness(level):
    return float(int(level * 90.0))
"""
ROWS = """    Operation("darken", "what is taken off", 50.0, {"Darken": levels.darkness}, by_level=pixel.darkened),
    Operation("swap", "", 0.0, {"Swap": levels.no_argument}, loop=view_loops.swap),
"""
REFERENCES = """    "darken": Reference(_whole(lambda image, x: image.point(lambda y: max(y - x, 0))), (0, 99)),
    "swap": Reference(_plain(lambda image: Image.merge("RGB", image.split()[::-1]))),
"""
VIEWS = """
import numpy as np
from pathlib import Path
from deit_fast.augment.policy import parse
from deit_fast.benchmarks.fidelity import bench, operations as fidelity
from deit_fast.benchmarks.fidelity.material import Material
from deit_fast.benchmarks.stages import STAGES
from deit_fast.kernels import operations, policy

drawn = parse("rand-m8-n1-p1-tnew", 0.0, "bicubic")
images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
codes, arguments = np.empty((20, 1), np.int32), np.empty((20, 1))
policy.draw_steps(np.uint64(0), np.arange(20, dtype=np.uint64), drawn, 6, 5, codes, arguments)
views, scratch = images.copy(), np.empty((1, operations.scratch_bytes(6, 5)), np.uint8)
operations.apply_all(codes, arguments, True, (0, 0, 0), views, scratch)
is_swapped = (views == images[..., ::-1]).all((1, 2, 3))
is_darkened = (views == np.maximum(images.astype(int) - 72, 0)).all((1, 2, 3))
assert (is_swapped ^ is_darkened).all() and is_swapped.any() and is_darkened.any()

assert {"darken", "swap"} <= set(STAGES)
rows = [row for row in fidelity.ROWS if row.name in ("Darken", "Swap")]
measured = [bench.measure(row, Material(0, list(images), [], Path())) for row in rows]
assert [(row["max"], row["num_views"]) for row in measured] == [(0.0, 20)] * 2

from deit_fast.kernels.cuda import policy as kernels
on_gpu, steps = images.copy(), np.stack([codes.astype(float), arguments], -1)
kernels.apply_steps(steps, on_gpu.reshape(-1), np.empty(600, np.uint32), (20, 6, 5), drawn.interpolation, (0, 0, 0), threads=2)
assert (on_gpu == views).all()
"""
SOURCE = """
import numpy as np
from deit_fast.data.convert.sources.base import Source


class Grey(Source):
    location, classes = "nowhere", ("dark", "light")

    def __init__(self):
        self.labels = np.array([0, 1, 1], np.int32)

    def name(self, sample):
        return f"grey {sample}"

    def read(self, sample):
        return np.full((40, 30, 3), 60 * (sample + 1), np.uint8)
"""
OPTIMISER = """
import torch
from deit_fast.config import OptimConfig
from deit_fast.train.optim import create_optimizer
from deit_fast.train.run_folder import _checkpoint_bytes

model = torch.nn.Linear(3, 2)
config = OptimConfig(name="adagrad")
optimizer = create_optimizer(config, model, 0.1)
before = model.weight.detach().clone()
model(torch.ones(3)).sum().backward()
optimizer.step()
print(type(optimizer).__name__, (before - model.weight).mean().item(), _checkpoint_bytes(model, None, config))
"""

MODEL = """
from timm.models import register_model
from torch import nn

default_cfgs = {"mean_colour": {"input_size": (3, 48, 48)}}


class MeanColour(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def reset_classifier(self, num_classes):
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        return self.head(images.mean((2, 3)))


@register_model
def mean_colour(pretrained=False, num_classes=1000, **options):
    return MeanColour(num_classes)
"""
MADE = """
import torch
from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model
from deit_fast.model.names import stated

model = create_model(ModelConfig(name="mean_colour"), num_classes=7, resolution=48)
print(*model(torch.ones(2, 3, 48, 48)).shape, stated("mean_colour").input_size[-1])
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_of_package(tmp_path)


@pytest.mark.long
def test_an_operation_is_a_row_and_its_reference(copy: Path) -> None:
    """One of each kind: by level, with a level function of its own; and with a loop, and a form for the GPU."""
    pytest.importorskip("numba_cuda")
    kernels = copy / "kernels"
    add_at_end(kernels / "pixel.py", LEVEL)
    add_at_end(kernels / "levels.py", MAGNITUDE)
    add_at_end(kernels / "view_loops.py", LOOP)
    add_before(kernels / "cuda" / "policy.py", "# What makes an operation", FORM)
    add_before(kernels / "cuda" / "policy.py", '    CODES["blur"]: _blur,\n', '    CODES["swap"]: _swap,\n')
    add_before(kernels / "operation_table.py", ")\n\nCODES", ROWS)
    references = copy / "benchmarks" / "fidelity" / "references.py"
    references.write_text(references.read_text(encoding="utf-8").removesuffix("}\n") + REFERENCES + "}\n", encoding="utf-8")
    add_before(copy / "augment" / "randaugment.py", '    "3aw": ', '    "new": {"Darken": 1.0, "Swap": 1.0},\n')
    output(copy, "-c", VIEWS, NUMBA_ENABLE_CUDASIM="1")


def test_a_source_is_a_file_and_a_case(copy: Path) -> None:
    sources = copy / "data" / "convert" / "sources"
    (sources / "grey.py").write_text(SOURCE, encoding="utf-8")
    case = (
        '        case "grey":\n            from deit_fast.data.convert.sources.grey import Grey\n\n            return Grey()\n'
    )
    add_before(sources / "__init__.py", '        case "imagenet":\n', case)
    add_before(copy / "config" / "convert.py", '"folder", "tars"', '"grey", ')
    out = str(copy.parent / "grey.beton")
    output(copy, "-m", "deit_fast", "write", "--source.kind=grey", "--source.path=.", f"--write.out={out}", "--write.mode=raw")
    beton = open_beton(out)
    assert (beton.classes, beton.labels.tolist(), set(beton.heights.tolist())) == (("dark", "light"), [0, 1, 1], {40})
    stored = [np.fromfile(out, np.uint8, 3600, offset=int(offset)) for offset in beton.offsets]
    assert [set(levels.tolist()) for levels in stored] == [{60}, {120}, {180}]


def test_a_model_is_a_file_and_an_import(copy: Path) -> None:
    (copy / "model" / "mean_colour.py").write_text(MODEL, encoding="utf-8")
    add_before(
        copy / "model" / "names.py", "from deit_fast.config import UserError\n", "from deit_fast.model import mean_colour\n"
    )
    assert output(copy, "-c", MADE).split() == ["2", "7", "48"]


def test_an_optimiser_is_a_name_and_a_branch(copy: Path) -> None:
    replace(copy / "config" / "learning.py", '("adamw", "sgd", "lamb")', '("adamw", "sgd", "lamb", "adagrad")')
    branch = '    elif config.name == "adagrad":\n        optimizer = torch.optim.Adagrad(groups, lr=lr)\n'
    add_before(copy / "train" / "optim.py", '    elif config.name == "lamb":\n', branch)
    add_before(copy / "train" / "optim.py", '"sgd": 1}', '"adagrad": 1, ')
    add_before(copy / "report" / "ablation.py", '"sgd": "SGD"', '"adagrad": "Adagrad", ')
    name, change, size = output(copy, "-c", OPTIMISER).split()
    assert (name, int(size)) == ("Adagrad", 2 * 4 * (2 * 3 + 2))
    assert float(change) == pytest.approx(0.1, rel=1e-3)  # of the first step, whatever the gradient
