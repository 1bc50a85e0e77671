"""Adapters and models on disk, in the formats that other tools read."""

from lightning_lora.adapters_io.facts import AdapterFacts as AdapterFacts
from lightning_lora.adapters_io.facts import read_facts as read_facts
from lightning_lora.adapters_io.loralib_file import load_loralib_file as load_loralib_file
from lightning_lora.adapters_io.loralib_file import loralib_outputs as loralib_outputs
from lightning_lora.adapters_io.merged_folder import save_model_folder as save_model_folder
from lightning_lora.adapters_io.merged_folder import write_model as write_model
from lightning_lora.adapters_io.peft_config import read_peft_config as read_peft_config
from lightning_lora.adapters_io.peft_folder import adapter_folder_of as adapter_folder_of
from lightning_lora.adapters_io.peft_folder import save_peft_folder as save_peft_folder
from lightning_lora.adapters_io.peft_import import copy_peft_folder as copy_peft_folder
from lightning_lora.adapters_io.peft_import import load_peft_folder as load_peft_folder
from lightning_lora.adapters_io.peft_import import peft_outputs as peft_outputs
from lightning_lora.adapters_io.placing import LoadedAdapter as LoadedAdapter
from lightning_lora.adapters_io.warm_start import WarmStart as WarmStart
from lightning_lora.adapters_io.warm_start import factors_fingerprint as factors_fingerprint
from lightning_lora.adapters_io.warm_start import warm_start as warm_start
