"""The paper's tables and figures, each by one command: planned, trained through suites, and reported with verdicts."""

from ser_bench.studies.options import Options as Options
from ser_bench.studies.steps import steps as steps
from ser_bench.studies.work import STUDIES as STUDIES
from ser_bench.studies.work import make as make
