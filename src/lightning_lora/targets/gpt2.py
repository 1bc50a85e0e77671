"""GPT-2: Conv1D layers, whose weight is (in, out); c_attn is q | k | v."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

GPT2 = (
    Projection(r"h\.(?P<block>\d+)\.attn\.c_attn", (Role.QUERY, Role.KEY, Role.VALUE)),
    Projection(r"h\.(?P<block>\d+)\.attn\.c_proj", (Role.OUTPUT,)),
    Projection(r"h\.(?P<block>\d+)\.mlp\.c_fc", (Role.UP,)),
    Projection(r"h\.(?P<block>\d+)\.mlp\.c_proj", (Role.DOWN,)),
)
