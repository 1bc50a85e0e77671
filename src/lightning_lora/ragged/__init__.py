"""Padding-free execution of Hugging Face classifiers: a batch is one row of real tokens."""

from lightning_lora.ragged.execution import RUNS_RAGGED as RUNS_RAGGED
from lightning_lora.ragged.execution import ragged_logits as ragged_logits
from lightning_lora.ragged.execution import runs_ragged as runs_ragged
from lightning_lora.ragged.layout import Layout as Layout
