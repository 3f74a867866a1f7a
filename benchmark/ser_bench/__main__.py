"""``python -m ser_bench`` is ``ser-bench``, for launchers: ``accelerate launch -m ser_bench run ...``."""

from __future__ import annotations

import sys

from ser_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
