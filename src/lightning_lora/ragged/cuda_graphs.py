"""Ragged training batches as CUDA graphs: what the GPU is to do is recorded once for a shape, then replayed.

A step of a small encoder with LoRA is a thousand kernels. A GPU computes them in 3 ms, and a process takes 30 ms to ask
for them one by one (docs/LOG.md). A graph is of one shape, so batches are brought to few shapes: T to eight for each
power of two, the longest text to multiples of 64. What is added to T lies behind the texts as texts of their own, which
no other sees and whose logits nobody takes.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_lora.ragged.execution import OF_TOKENS, arguments_for, logits_of
from lightning_lora.ragged.layout import Layout
from lightning_lora.settings import first_line

FILLER_TEXT = 32
"""A filler text has at most one token more, short enough for any model's position table. For longer batches it is
``longest - LONGEST``: their longest text has at least one token more, and attention pads to that anyway."""
FINEST, PARTS = 32, 8
"""T is a multiple of this, and of the power of two below it divided by that."""
LONGEST = 64
"""The longest text is a multiple of this, for attention alone, where the texts are padded to it."""
MOST = 24
"""Shapes that are recorded; further ones run without a graph. Each keeps a gradient of every trained parameter, and
took 54 to 65 MiB besides on an H200 (benchmarks/README.md)."""


@dataclass(frozen=True)
class Shape:
    """All that differs between recorded batches, other than values.

    Attributes:
        texts: Of the batch.
        fillers: Texts of filler behind them.
        tokens: T, filler included.
        longest: No text has more tokens.
    """

    texts: int
    fillers: int
    tokens: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Shape":
        """The shape that texts of these lengths are brought to."""
        total = sum(lengths)
        step = max(FINEST, 2 ** (total.bit_length() - 1) // PARTS)
        longest = -(-max(*lengths, FILLER_TEXT + 1) // LONGEST) * LONGEST
        fillers = -(-step // max(FILLER_TEXT, longest - LONGEST))
        tokens = -(-(total + fillers) // step) * step
        return cls(len(lengths), fillers, tokens, longest)


def filled(lengths: Sequence[int], shape: Shape) -> list[int]:
    """The lengths of a batch's texts and of the filler behind them, which sum to T."""
    each, longer = divmod(shape.tokens - sum(lengths), shape.fillers)
    return [*lengths, *(each + (number < longer) for number in range(shape.fillers))]


class OfOneShape(nn.Module):
    """The model on batches of one shape: tensors in, tensors out, and the same operations every time."""

    def __init__(self, model: PreTrainedModel, shape: Shape, names: Sequence[str]) -> None:
        """Wrap.

        Args:
            model: One that `runs_ragged`.
            shape: Of the batches.
            names: What they hold for each token, in the order in which it will be given.
        """
        super().__init__()
        self.model, self._shape, self._names = model, shape, tuple(names)

    def forward(
        self, lengths: Int64[Tensor, " all_texts"], *tokens: Int64[Tensor, "1 T"]
    ) -> Float[Tensor, "texts outputs"]:
        """The logits of the texts that are no filler."""
        layout = Layout.of_shape(lengths, self._shape.tokens, self._shape.longest)
        named = dict(zip(self._names, tokens, strict=True))
        return logits_of(self.model, layout, arguments_for(self.model, layout, named))[: self._shape.texts]


class CudaGraphs:
    """`ragged_logits` of a model in training, by graphs where a shape comes again.

    A shape is recorded when it comes for the second time, so that one that comes once costs nothing; until then it is
    computed operation by operation. A replay does what was recorded, with the random numbers that the operations would
    have drawn; recording takes the time of two steps and draws none. So nothing depends on what was recorded when.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Keep the model.

        Args:
            model: One that `runs_ragged`, in training mode. Its parameters stay where they are in memory while this is
                in use. On a CPU batches are brought to the same shapes, and nothing is recorded.
        """
        self._model, self._record_more = model, torch.cuda.is_available() and MOST > 0
        self._by_shape: dict[Shape, OfOneShape] = {}
        self._recorded: set[Shape] = set()
        self._pool = torch.cuda.graph_pool_handle() if self._record_more else None
        # Keep the AccumulateGrad nodes alive: they are bound to the stream they were created on, which must not be a
        # capture stream.
        self._adding_up = [p.expand_as(p).grad_fn for p in model.parameters() if p.requires_grad]

    @property
    def recorded(self) -> int:
        """How many shapes are replayed."""
        return len(self._recorded)

    def logits(self, inputs: Mapping[str, Any]) -> Float[Tensor, "texts outputs"]:
        """The logits of a batch, which have a gradient for what is trained in the model.

        They are overwritten by the next call, and their gradients too.

        Args:
            inputs: As of `ragged_logits`, without hidden states; the lengths on the CPU.

        Raises:
            RuntimeError: the model does something that cannot be recorded.
        """
        lengths: list[int] = inputs["lengths"].tolist()
        shape, device = Shape.of(lengths), inputs["input_ids"].device
        texts = torch.tensor(filled(lengths, shape))
        names = [name for name in OF_TOKENS if name in inputs]
        behind = shape.tokens - sum(lengths)
        given = (texts.to(device), *(F.pad(inputs[name], (0, behind)) for name in names))
        seen = self._by_shape.get(shape)
        if seen is None:
            seen = self._by_shape[shape] = OfOneShape(self._model, shape, names)
        elif self._record_more and device.type == "cuda" and shape not in self._recorded:
            self._record(seen, shape, given)
        logits: Tensor = seen(*given)
        return logits

    def _record(self, model: OfOneShape, shape: Shape, given: tuple[Tensor, ...]) -> None:
        """From now on ``model`` replays what it does now; where memory is short nothing more is recorded."""
        own = tuple(tensor.clone() for tensor in given)
        try:
            with torch.random.fork_rng(devices=[own[0].device]), _nothing_freed():
                torch.cuda.make_graphed_callables(
                    model, own, num_warmup_iters=1, allow_unused_input=True, pool=self._pool
                )
        except torch.OutOfMemoryError:
            self._record_more = False
        except RuntimeError as error:
            _leave_recording(own[0].device)
            raise RuntimeError(
                f"recording {type(self._model).__name__} as a CUDA graph failed ({first_line(error)}); "
                "leave trainer.cuda_graphs=true out"
            ) from error
        else:
            self._recorded.add(shape)
            self._record_more = len(self._recorded) < MOST


def _leave_recording(device: torch.device) -> None:
    """What a recording that was broken off leaves torch in: its stream, and a generator that takes every draw for it.

    This run cannot go on, for its other graphs have that generator's state; the next one in this process can.
    """
    with suppress(RuntimeError):
        torch.cuda.set_stream(torch.cuda.default_stream(device))
        generator = torch.cuda.default_generators[device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _nothing_freed() -> Iterator[None]:
    """No garbage collection meanwhile: were the graphs of an earlier run freed, the recording would be broken off."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
