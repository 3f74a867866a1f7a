"""For tests, public: contract checks for plugins, and synthetic releases."""

from ser_bench.testing.contract import Outcome, check, offered_by
from ser_bench.testing.releases import write_release, write_wav

__all__ = ["Outcome", "check", "offered_by", "write_release", "write_wav"]
