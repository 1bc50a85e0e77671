"""LoRA itself: the mathematics, the settings and the adapted layers. Imports torch and nothing else."""

from lightning_lora.lora.functional import WHOLE as WHOLE
from lightning_lora.lora.functional import OutputLayout as OutputLayout
from lightning_lora.lora.heads import RoutedHead as RoutedHead
from lightning_lora.lora.heads import routed_head_class as routed_head_class
from lightning_lora.lora.initialisation import INITIALISATIONS as INITIALISATIONS
from lightning_lora.lora.layers import LoRAEmbedding as LoRAEmbedding
from lightning_lora.lora.layers import LoRALayer as LoRALayer
from lightning_lora.lora.layers import LoRALinear as LoRALinear
from lightning_lora.lora.layers import LowRankDelta as LowRankDelta
from lightning_lora.lora.layers import lora_class_for as lora_class_for
from lightning_lora.lora.parameters import adapter_keys as adapter_keys
from lightning_lora.lora.parameters import adapter_parameters as adapter_parameters
from lightning_lora.lora.parameters import lora_layers as lora_layers
from lightning_lora.lora.parameters import routing_of as routing_of
from lightning_lora.lora.routed import Routed as Routed
from lightning_lora.lora.routed import routed_modules as routed_modules
from lightning_lora.lora.routing import Routing as Routing
from lightning_lora.lora.routing import Span as Span
from lightning_lora.lora.routing import route as route
from lightning_lora.lora.routing import spans_of as spans_of
from lightning_lora.lora.scaling import SCALINGS as SCALINGS
from lightning_lora.lora.spec import LoraSpec as LoraSpec
