"""Scores: the CCC, its intervals, paired comparison, slices and calibration. Imports numpy alone.

``metric`` (an ``evaluate.Metric``) is heavy and imported by nobody here; the torch counterpart of the CCC is
``ser_bench.training.loss``.
"""

from ser_bench.scoring.ccc import METRIC, concordance
from ser_bench.scoring.compare import Block, Difference, compare, holm, rank
from ser_bench.scoring.partition import PartitionScore, match, score_partition
from ser_bench.scoring.resampling import cluster_ids, interval, leave_one_out
from ser_bench.scoring.utterances import resample, utterance_interval

__all__ = [
    "METRIC",
    "Block",
    "Difference",
    "PartitionScore",
    "cluster_ids",
    "compare",
    "concordance",
    "holm",
    "interval",
    "leave_one_out",
    "match",
    "rank",
    "resample",
    "score_partition",
    "utterance_interval",
]
