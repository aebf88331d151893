"""High-throughput training of DeiT and ResNet image classifiers from FFCV betons.

`__all__` lists the public interface; anything else may change from one version to the next. `import deit_fast` loads neither
PyTorch nor Numba nor FFCV: the module of a name is imported when the name is first used.

- Betons: `write_beton` makes one from a SourceConfig and a WriteConfig, `open_beton` gives a Beton, `verify_beton` checks one.
- Loading: `train_loader` and `eval_loader` give a Loader of Batches, from a DataConfig and an AugmentConfig.
- Operations for a stock `ffcv.loader.Loader`: `DecodeTrainViews`, `DecodeEvalViews`, `AugmentViews`, `Finish`, `Label` and
  `SoftTargets`.
- Configuration: RunConfig and its sections; `parse` reads recipes and options as the command line does.
- Training: `train_classifier` does what `deit-fast train` does, `evaluate_checkpoint` what `deit-fast eval` does.
- Errors: UserError is an error that the user can mend, in one line; RankError is one that only a single rank meets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deit_fast.cli import parse
    from deit_fast.config import (
        AugmentConfig,
        BudgetConfig,
        DataConfig,
        DistilConfig,
        EvalConfig,
        ModelConfig,
        OptimConfig,
        RankError,
        RunConfig,
        RunSection,
        ScheduleConfig,
        SourceConfig,
        TrainConfig,
        UserError,
        VerifyConfig,
        WriteConfig,
    )
    from deit_fast.data.convert.write import write_beton
    from deit_fast.data.examine.verify import verify_beton
    from deit_fast.data.ffcv_ops import AugmentViews, DecodeEvalViews, DecodeTrainViews, Finish, Label, SoftTargets
    from deit_fast.data.format.beton import Beton, open_beton
    from deit_fast.data.load.batch import Batch
    from deit_fast.data.load.batches import Loader
    from deit_fast.data.load.loader import eval_loader, train_loader
    from deit_fast.plan.training import train as train_classifier
    from deit_fast.train.evaluate import evaluate_checkpoint

__version__ = "0.1.0"
__all__ = [
    "AugmentConfig",
    "AugmentViews",
    "Batch",
    "Beton",
    "BudgetConfig",
    "DataConfig",
    "DecodeEvalViews",
    "DecodeTrainViews",
    "DistilConfig",
    "EvalConfig",
    "Finish",
    "Label",
    "Loader",
    "ModelConfig",
    "OptimConfig",
    "RankError",
    "RunConfig",
    "RunSection",
    "ScheduleConfig",
    "SoftTargets",
    "SourceConfig",
    "TrainConfig",
    "UserError",
    "VerifyConfig",
    "WriteConfig",
    "__version__",
    "eval_loader",
    "evaluate_checkpoint",
    "open_beton",
    "parse",
    "train_classifier",
    "train_loader",
    "verify_beton",
    "write_beton",
]

# the module of each public name, and its name there if that differs; all other names come from `config`
_HOMES = {
    "AugmentViews": "data.ffcv_ops",
    "Batch": "data.load.batch",
    "Beton": "data.format.beton",
    "DecodeEvalViews": "data.ffcv_ops",
    "DecodeTrainViews": "data.ffcv_ops",
    "Finish": "data.ffcv_ops",
    "Label": "data.ffcv_ops",
    "Loader": "data.load.batches",
    "SoftTargets": "data.ffcv_ops",
    "eval_loader": "data.load.loader",
    "evaluate_checkpoint": "train.evaluate",
    "open_beton": "data.format.beton",
    "parse": "cli",
    "train_classifier": "plan.training:train",  # deit_fast.train is the package
    "train_loader": "data.load.loader",
    "verify_beton": "data.examine.verify",
    "write_beton": "data.convert.write",
}


def __getattr__(name: str) -> Any:
    """Imports the module of a public name and gives the name. Raises AttributeError for other names."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own_name = _HOMES.get(name, "config").partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), own_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
