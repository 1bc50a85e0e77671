"""BERT and the encoders that kept its block: RoBERTa, XLM-RoBERTa, ELECTRA."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

# Every pattern starts at the block: "output.dense" alone would also be the attention's output.
BERT = (
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.query", (Role.QUERY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.key", (Role.KEY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.value", (Role.VALUE,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.output\.dense", (Role.OUTPUT,)),
    Projection(r"layer\.(?P<block>\d+)\.intermediate\.dense", (Role.UP,)),
    Projection(r"layer\.(?P<block>\d+)\.output\.dense", (Role.DOWN,)),
)
