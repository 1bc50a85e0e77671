"""Llama and the decoders that kept its block: Mistral, Qwen2, Qwen3, Gemma 2."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

LLAMA = (
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.q_proj", (Role.QUERY,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.k_proj", (Role.KEY,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.v_proj", (Role.VALUE,)),
    Projection(r"layers\.(?P<block>\d+)\.self_attn\.o_proj", (Role.OUTPUT,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.gate_proj", (Role.GATE,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.up_proj", (Role.UP,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.down_proj", (Role.DOWN,)),
)
