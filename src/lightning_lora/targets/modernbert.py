"""ModernBERT: Wqkv is q | k | v, Wi is activation branch | linear branch."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

# Its own source calls the linear branch "gate"; here the gate is the branch that goes through the activation.
MODERNBERT = (
    Projection(r"layers\.(?P<block>\d+)\.attn\.Wqkv", (Role.QUERY, Role.KEY, Role.VALUE)),
    Projection(r"layers\.(?P<block>\d+)\.attn\.Wo", (Role.OUTPUT,)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.Wi", (Role.GATE, Role.UP)),
    Projection(r"layers\.(?P<block>\d+)\.mlp\.Wo", (Role.DOWN,)),
)
