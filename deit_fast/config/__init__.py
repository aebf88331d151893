"""The configuration of a run: one frozen dataclass for each section, and checks across sections.

Every default of the project stands here once, beside its meaning and unit. `cli` builds these from YAML and the command
line; every other module takes the section that concerns it.
"""

from deit_fast.config.checks import (
    check_loading,
    check_optimiser,
    check_option,
    check_placement,
    check_ranges,
    check_sections,
    check_stages,
    check_training,
    target_top1,
    warnings_of,
)
from deit_fast.config.convert import InspectConfig, SourceConfig, SourceKind, VerifyConfig, WriteConfig
from deit_fast.config.data import (
    AugmentConfig,
    DataConfig,
    eval_augment,
    eval_batch_size,
    eval_crop_ratio,
    eval_resolution,
    is_mixing,
)
from deit_fast.config.declared import Declared, as_now, declared, in_words, set_kind, value_now
from deit_fast.config.learning import OWN_OPTIMISERS, TIMM_PREFIX, OptimConfig, ScheduleConfig
from deit_fast.config.looking import AnalyseConfig, ViewsConfig
from deit_fast.config.model import DistilConfig, ModelConfig
from deit_fast.config.options import Decides, Pair, RankError, Triple, UserError, Within, at_home, option
from deit_fast.config.regroup import FilterConfig, MergeConfig, SplitConfig, SubsetConfig
from deit_fast.config.run import BudgetConfig, EvalConfig, RunConfig, RunSection, SlurmConfig, TrainConfig
from deit_fast.config.stages import (
    STAGE_LENGTHS,
    STAGE_OPTIONS,
    betons_of_stages,
    config_of_stage,
    stage_ends,
    without_betons,
)
from deit_fast.config.study import BenchConfig, DemoConfig, PlanConfig, ReportConfig, SweepConfig, TeachConfig
from deit_fast.config.use import ExportConfig, PredictConfig

__all__ = [
    "OWN_OPTIMISERS",
    "STAGE_LENGTHS",
    "STAGE_OPTIONS",
    "TIMM_PREFIX",
    "AnalyseConfig",
    "AugmentConfig",
    "BenchConfig",
    "BudgetConfig",
    "DataConfig",
    "Decides",
    "Declared",
    "DemoConfig",
    "DistilConfig",
    "EvalConfig",
    "ExportConfig",
    "FilterConfig",
    "InspectConfig",
    "MergeConfig",
    "ModelConfig",
    "OptimConfig",
    "Pair",
    "PlanConfig",
    "PredictConfig",
    "RankError",
    "ReportConfig",
    "RunConfig",
    "RunSection",
    "ScheduleConfig",
    "SlurmConfig",
    "SourceConfig",
    "SourceKind",
    "SplitConfig",
    "SubsetConfig",
    "SweepConfig",
    "TeachConfig",
    "TrainConfig",
    "Triple",
    "UserError",
    "VerifyConfig",
    "ViewsConfig",
    "Within",
    "WriteConfig",
    "as_now",
    "at_home",
    "betons_of_stages",
    "check_loading",
    "check_optimiser",
    "check_option",
    "check_placement",
    "check_ranges",
    "check_sections",
    "check_stages",
    "check_training",
    "config_of_stage",
    "declared",
    "eval_augment",
    "eval_batch_size",
    "eval_crop_ratio",
    "eval_resolution",
    "in_words",
    "is_mixing",
    "option",
    "set_kind",
    "stage_ends",
    "target_top1",
    "value_now",
    "warnings_of",
    "without_betons",
]
