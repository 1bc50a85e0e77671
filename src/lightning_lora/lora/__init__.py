"""LoRA itself: the mathematics, the settings and the adapted layers. Imports torch and nothing else."""

from lightning_lora.lora.functional import WHOLE as WHOLE
from lightning_lora.lora.functional import OutputLayout as OutputLayout
from lightning_lora.lora.initialisation import INITIALISATIONS as INITIALISATIONS
from lightning_lora.lora.layers import LoRAEmbedding as LoRAEmbedding
from lightning_lora.lora.layers import LoRALayer as LoRALayer
from lightning_lora.lora.layers import LoRALinear as LoRALinear
from lightning_lora.lora.layers import LowRankDelta as LowRankDelta
from lightning_lora.lora.layers import lora_class_for as lora_class_for
from lightning_lora.lora.parameters import adapter_parameters as adapter_parameters
from lightning_lora.lora.parameters import lora_layers as lora_layers
from lightning_lora.lora.parameters import routing_of as routing_of
from lightning_lora.lora.routing import Routing as Routing
from lightning_lora.lora.scaling import SCALINGS as SCALINGS
from lightning_lora.lora.spec import LoraSpec as LoraSpec
