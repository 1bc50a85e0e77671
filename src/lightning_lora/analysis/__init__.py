"""What an adapter is, mathematically: counts, gradients, spectra, subspaces, dimensions. No Lightning."""

from lightning_lora.analysis.spectra import ENERGY as ENERGY
from lightning_lora.analysis.spectra import Spectrum as Spectrum
from lightning_lora.analysis.spectra import energy_rank as energy_rank
from lightning_lora.analysis.spectra import entropy_rank as entropy_rank
from lightning_lora.analysis.spectra import proposed_ranks as proposed_ranks
from lightning_lora.analysis.spectra import spectra as spectra
from lightning_lora.analysis.spectra import stable_rank as stable_rank
