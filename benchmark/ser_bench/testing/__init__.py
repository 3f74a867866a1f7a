"""For tests, public: contract checks for plugins, and synthetic releases."""

from ser_bench.testing.contract import Outcome, check
from ser_bench.testing.releases import write_release, write_wav

__all__ = ["Outcome", "check", "write_release", "write_wav"]
