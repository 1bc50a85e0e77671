"""The table of layer cases: every law of `lightning_lora.lora` is tested over all of it. A new layer kind is a row."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lightning_lora.lora import (
    INITIALISATIONS,
    SCALINGS,
    WHOLE,
    LoRALayer,
    LoraSpec,
    OutputLayout,
    Routing,
    lora_class_for,
)

IN, OUT, VOCABULARY = 10, 24, 17


def _linear(bias: bool) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(IN, OUT, bias=bias)


def _conv1d() -> nn.Module:
    layer = Conv1D(OUT, IN)
    nn.init.normal_(layer.bias)
    return layer


@dataclass(frozen=True)
class Case:
    """A layer kind, its output layout, and the settings of the adapter on it."""

    name: str
    build: Callable[[], nn.Module]
    layout: OutputLayout = WHOLE
    dtype: torch.dtype = torch.float32
    initialisation: str = "kaiming"
    scaling: str = "alpha_over_rank"
    rank: int = 3

    def base(self) -> nn.Module:
        """A frozen layer of this kind, random in value, in this case's dtype."""
        return self.build().to(self.dtype).requires_grad_(False)

    def spec(self) -> LoraSpec:
        return LoraSpec(rank=self.rank, alpha=5.0, scaling=self.scaling, initialisation=self.initialisation)

    def adapted(self, base: nn.Module, *, trained: bool = True) -> LoRALayer:
        """The layer with an active adapter "default", both factors random where ``trained``."""
        lora_class = lora_class_for(base)
        assert lora_class is not None
        layer = lora_class.adopt(base, Routing("default"))
        delta = layer.add_adapter("default", self.spec(), self.layout)
        if trained:
            for factor in delta.parameters():
                if not factor.any():
                    nn.init.normal_(factor, std=0.5)
        return layer

    def inputs(self) -> Tensor:
        """A batch (2, 5) of inputs: token ids for an embedding, features otherwise."""
        if isinstance(self.build(), nn.Embedding):
            return torch.randint(VOCABULARY, (2, 5))
        return torch.randn(2, 5, IN, dtype=self.dtype)


CASES = [
    Case("linear", _linear(True)),
    Case("linear_no_bias", _linear(False)),
    Case("linear_rank_1", _linear(True), rank=1),
    Case("conv1d", _conv1d),
    Case("embedding", lambda: nn.Embedding(VOCABULARY, OUT)),
    Case("embedding_padding", lambda: nn.Embedding(VOCABULARY, OUT, padding_idx=0)),
    Case("fused_qv", _linear(True), OutputLayout((0, 2), parts=3)),
    Case("fused_k", _linear(True), OutputLayout((1,), parts=3)),
    Case("fused_qkv_interleaved", _linear(True), OutputLayout((0, 1, 2), parts=3, groups=4)),
    Case("fused_qv_interleaved", _linear(True), OutputLayout((0, 2), parts=3, groups=4)),
    Case("conv1d_fused_qv", _conv1d, OutputLayout((0, 2), parts=3)),
    Case("linear_bf16", _linear(True), dtype=torch.bfloat16),
    Case("linear_fp16", _linear(True), dtype=torch.float16),
    Case("linear_fp64", _linear(True), dtype=torch.float64),
    Case("conv1d_bf16", _conv1d, OutputLayout((0, 2), parts=3), dtype=torch.bfloat16),
    *(Case(f"linear_{name}", _linear(True), initialisation=name) for name in INITIALISATIONS),
    *(Case(f"linear_{name}", _linear(True), scaling=name) for name in SCALINGS),
]
