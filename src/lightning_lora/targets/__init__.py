"""Which linear layers of an architecture are its query, key, value, output, up, gate and down projections.

Facts by a config's `model_type` only: nothing here imports torch or sees a model. An architecture is one table and one
line in `ARCHITECTURES`.
"""

from lightning_lora.spelling import did_you_mean
from lightning_lora.targets.albert import ALBERT
from lightning_lora.targets.bert import BERT
from lightning_lora.targets.deberta import DEBERTA, DEBERTA_V2
from lightning_lora.targets.distilbert import DISTILBERT
from lightning_lora.targets.gpt2 import GPT2
from lightning_lora.targets.gpt_neox import GPT_NEOX
from lightning_lora.targets.llama import LLAMA
from lightning_lora.targets.modernbert import MODERNBERT
from lightning_lora.targets.mpnet import MPNET
from lightning_lora.targets.opt import OPT
from lightning_lora.targets.projection import Match, Projection, match
from lightning_lora.targets.roles import ROLE_SETS, Role, adapted_label
from lightning_lora.targets.t5 import T5

__all__ = [
    "ARCHITECTURES",
    "POSITIONS_BEHIND_PADDING",
    "ROLE_SETS",
    "Match",
    "Projection",
    "Role",
    "UnknownArchitecture",
    "adapted_label",
    "match",
    "projections_for",
]

ARCHITECTURES: dict[str, tuple[Projection, ...]] = {
    "albert": ALBERT,
    "bert": BERT,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA_V2,
    "distilbert": DISTILBERT,
    "electra": BERT,
    "gemma2": LLAMA,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "llama": LLAMA,
    "mistral": LLAMA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "opt": OPT,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "roberta": BERT,
    "t5": T5,
    "xlm-roberta": BERT,
}
"""The projections of an architecture, by the ``model_type`` of its Hugging Face config."""

POSITIONS_BEHIND_PADDING = frozenset({"mpnet", "roberta", "xlm-roberta"})
"""Those whose first position has the number ``pad_token_id + 1``, so that the table has so many rows less for texts."""


class UnknownArchitecture(ValueError):  # noqa: N818 - a public name of the contract
    """There is no table for a model type.

    Attributes:
        model_type: What was asked for.
        known: Every model type that has a table, in order.
    """

    def __init__(self, model_type: str) -> None:
        # The argument alone, so that the exception survives pickling between processes.
        super().__init__(model_type)
        self.model_type = model_type
        self.known = tuple(sorted(ARCHITECTURES))

    def __str__(self) -> str:
        return (
            f"no roles are known for the architecture {self.model_type!r}{did_you_mean(self.model_type, self.known)}; "
            f"known: {', '.join(self.known)}; for any other, name the modules to adapt instead of roles"
        )


def projections_for(model_type: str) -> tuple[Projection, ...]:
    """Look up the projections of an architecture.

    Args:
        model_type: The ``model_type`` of a Hugging Face config, such as "roberta".

    Returns:
        The rows of its table.

    Raises:
        UnknownArchitecture: If there is no table for it.
    """
    if model_type not in ARCHITECTURES:
        raise UnknownArchitecture(model_type)
    return ARCHITECTURES[model_type]
