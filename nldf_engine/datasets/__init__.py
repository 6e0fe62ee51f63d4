"""Datasets: their format, their checks, and the layouts of other projects.

`open_dataset` opens a folder of any of them; `Dataset` is what it gives.
"""

from nldf_engine.datasets.dataset import LABELS, Dataset, DatasetInfo, write_dataset
from nldf_engine.datasets.footage import footage_of
from nldf_engine.datasets.open import open_dataset

__all__ = ["LABELS", "Dataset", "DatasetInfo", "footage_of", "open_dataset", "write_dataset"]
