"""T5: encoder and decoder blocks, each numbered from 0; self- and cross-attention have the same roles.

The feed-forward is plain (wi, the first T5) or gated (wi_0 and wi_1, from v1.1 on); wi_0 goes through the activation.
"""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

T5 = (
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.q", (Role.QUERY,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.k", (Role.KEY,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.v", (Role.VALUE,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.o", (Role.OUTPUT,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.DenseReluDense\.(?:wi|wi_1)", (Role.UP,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.DenseReluDense\.wi_0", (Role.GATE,)),
    Projection(r"block\.(?P<block>\d+)\.layer\.\d+\.DenseReluDense\.wo", (Role.DOWN,)),
)
