"""Many runs: planned, several at once, on one machine or a cluster; finished ones are skipped, unfinished go on.

::

    from ser_bench.suite import RunSpec, run_suite

    specs = [RunSpec(plugin=name, corpus="demo", seeds=(1, 2, 3)) for name in ("logmel", "logmel_words")]
    for outcome in run_suite(specs, out="runs", jobs=2):
        print(outcome.planned, outcome.state)
"""

from ser_bench.suite.cluster import Cluster as Cluster
from ser_bench.suite.file import SuiteFile as SuiteFile
from ser_bench.suite.file import read as read
from ser_bench.suite.planned import Planned as Planned
from ser_bench.suite.planned import plan as plan
from ser_bench.suite.spec import RunSpec as RunSpec
from ser_bench.suite.work import Outcome as Outcome
from ser_bench.suite.work import execute as execute
from ser_bench.suite.work import require_success as require_success
from ser_bench.suite.work import run_suite as run_suite
