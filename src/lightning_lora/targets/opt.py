"""OPT."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

OPT = (
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.q_proj", (Role.QUERY,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.k_proj", (Role.KEY,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.v_proj", (Role.VALUE,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.out_proj", (Role.OUTPUT,)),
    Projection(r"layers\.(?P<block>\d+)\.fc1", (Role.UP,)),
    Projection(r"layers\.(?P<block>\d+)\.fc2", (Role.DOWN,)),
)
