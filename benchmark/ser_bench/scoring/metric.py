"""The CCC as an ``evaluate.Metric``, for users of that library.

Heavy: ``evaluate`` brings torch and takes seconds to import, so nothing else in ``ser_bench`` imports this module.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from ser_bench.scoring.ccc import METRIC, concordance

_CITATION = """@article{lin1989concordance,
  author = {Lin, Lawrence I-Kuei}, title = {A Concordance Correlation Coefficient to Evaluate Reproducibility},
  journal = {Biometrics}, volume = {45}, number = {1}, pages = {255--268}, year = {1989}}"""


class ConcordanceCorrelation(evaluate.Metric):  # type: ignore[misc]
    """Compute Lin's CCC of ``predictions`` and ``references``: ``{"concordance": float}``.

    Works without a network: ``ConcordanceCorrelation().compute(predictions=[...], references=[...])``. It is
    ``ser_bench.scoring.concordance`` and raises what that raises.
    """

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")  # float32 would cost the agreement to 1e-9
        return evaluate.MetricInfo(
            description=f"Lin's concordance correlation coefficient, population moments ({METRIC}).",
            citation=_CITATION,
            inputs_description="predictions and references: one number per utterance, in one unit.",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"concordance": concordance(predictions, references)}
