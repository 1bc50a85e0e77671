"""Plots of a comparison, as figures and as files. Importing this imports matplotlib, which nothing else does."""

from lightning_lora.reporting.plots.catalogue import PLOTS as PLOTS
from lightning_lora.reporting.plots.catalogue import Plot as Plot
from lightning_lora.reporting.plots.catalogue import plots_of as plots_of
from lightning_lora.reporting.plots.catalogue import save_plots as save_plots
from lightning_lora.reporting.plots.style import THEME as THEME
from lightning_lora.reporting.plots.style import rendered as rendered
