"""DeBERTa, with its fused in_proj, and DeBERTa-v2 and -v3, without.

The projections of relative positions (pos_proj, pos_q_proj; pos_key_proj, pos_query_proj) have no role: no token goes
through them. Published DeBERTa-v3 has none of its own (share_att_key): positions go through query_proj and key_proj.
"""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

_OUTPUT_AND_FEED_FORWARD = (
    Projection(r"layer\.(?P<block>\d+)\.attention\.output\.dense", (Role.OUTPUT,)),
    Projection(r"layer\.(?P<block>\d+)\.intermediate\.dense", (Role.UP,)),
    Projection(r"layer\.(?P<block>\d+)\.output\.dense", (Role.DOWN,)),
)

# The output is split into heads first and into q, k and v after: each head holds its own three parts.
DEBERTA = (
    Projection(
        r"layer\.(?P<block>\d+)\.attention\.self\.in_proj",
        (Role.QUERY, Role.KEY, Role.VALUE),
        groups="num_attention_heads",
    ),
    *_OUTPUT_AND_FEED_FORWARD,
)

DEBERTA_V2 = (
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.query_proj", (Role.QUERY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.key_proj", (Role.KEY,)),
    Projection(r"layer\.(?P<block>\d+)\.attention\.self\.value_proj", (Role.VALUE,)),
    *_OUTPUT_AND_FEED_FORWARD,
)
