"""GPT-NeoX and Pythia: query_key_value holds q, k and v head by head."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

GPT_NEOX = (
    Projection(
        r"layers\.(?P<block>\d+)\.attention\.query_key_value",
        (Role.QUERY, Role.KEY, Role.VALUE),
        groups="num_attention_heads",
    ),
    Projection(r"layers\.(?P<block>\d+)\.attention\.dense", (Role.OUTPUT,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.dense_h_to_4h", (Role.UP,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.dense_4h_to_h", (Role.DOWN,)),
)
