"""MPNet."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

MPNET = (
    Projection(r"layer\.(?P<block>\d+)\.attention\.attn\.q", (Role.QUERY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.attn\.k", (Role.KEY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.attn\.v", (Role.VALUE,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.attn\.o", (Role.OUTPUT,)),
    Projection(r"layer\.(?P<block>\d+)\.intermediate\.dense", (Role.UP,)),
    Projection(r"layer\.(?P<block>\d+)\.output\.dense", (Role.DOWN,)),
)
