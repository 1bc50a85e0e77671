"""Surgery on a model: choose layers, adapt them, freeze the rest, merge and undo it; and say what was done."""

from lightning_lora.inject.attach import adapter_names as adapter_names
from lightning_lora.inject.attach import attach_adapter as attach_adapter
from lightning_lora.inject.attach import disable as disable
from lightning_lora.inject.attach import disabled as disabled
from lightning_lora.inject.attach import eject as eject
from lightning_lora.inject.attach import enable as enable
from lightning_lora.inject.attach import inject_adapter as inject_adapter
from lightning_lora.inject.attach import merge as merge
from lightning_lora.inject.attach import merged as merged
from lightning_lora.inject.attach import unmerge as unmerge
from lightning_lora.inject.freezing import BASELINES as BASELINES
from lightning_lora.inject.freezing import train_baseline as train_baseline
from lightning_lora.inject.freezing import train_only as train_only
from lightning_lora.inject.report import AdaptedModule as AdaptedModule
from lightning_lora.inject.report import InjectionReport as InjectionReport
from lightning_lora.inject.report import ParameterTotals as ParameterTotals
from lightning_lora.inject.report import count_parameters as count_parameters
from lightning_lora.inject.selection import Selected as Selected
from lightning_lora.inject.selection import select as select
