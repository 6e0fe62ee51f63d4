"""Datasets: their format, checks, foreign layouts, preparation from video, and the synthetic speaker."""

from nldf_engine.datasets.dataset import LABELS, Dataset, DatasetInfo, write_dataset

__all__ = ["LABELS", "Dataset", "DatasetInfo", "write_dataset"]
