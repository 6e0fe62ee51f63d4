"""What an evaluation shows people: a page, plots and pictures."""

from nldf_engine.evaluation.report.write import report

__all__ = ["report"]
