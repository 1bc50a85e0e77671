"""ALBERT: one group of layers runs many times, so an adapter on it acts at every depth."""

from lightning_lora.targets.projection import Projection
from lightning_lora.targets.roles import Role

ALBERT = (
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.attention\.query", (Role.QUERY,)),
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.attention\.key", (Role.KEY,)),
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.attention\.value", (Role.VALUE,)),
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.attention\.dense", (Role.OUTPUT,)),
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.ffn", (Role.UP,)),
    Projection(r"albert_layer_groups\.(?P<block>\d+)\.albert_layers\.\d+\.ffn_output", (Role.DOWN,)),
)
