"""Padding-free execution of Hugging Face classifiers: a batch is one row of real tokens."""

from lightning_lora.ragged.cuda_graphs import CudaGraphs as CudaGraphs
from lightning_lora.ragged.execution import hidden_before as hidden_before
from lightning_lora.ragged.execution import ragged_logits as ragged_logits
from lightning_lora.ragged.execution import runs_ragged as runs_ragged
from lightning_lora.ragged.frozen_blocks import frozen_blocks as frozen_blocks
from lightning_lora.ragged.layout import Layout as Layout
