"""DistilBERT."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

DISTILBERT = (
    Projection(r"layer\.(?P<block>\d+)\.attention\.q_lin", (Role.QUERY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.k_lin", (Role.KEY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.v_lin", (Role.VALUE,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.out_lin", (Role.OUTPUT,)),
    Projection(r"layer\.(?P<block>\d+)\.ffn\.lin1", (Role.UP,)),
    Projection(r"layer\.(?P<block>\d+)\.ffn\.lin2", (Role.DOWN,)),
)
