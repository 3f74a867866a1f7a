"""Train in several processes, for tests: each starts this file anew and leaves what it found in a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def launch(code: str, given: dict[str, Any], processes: int, *, timeout: float = 300) -> list[str]:
    """Run ``code`` in that many processes, as a launcher does; it finds ``given``. Return what each says on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    path = os.pathsep.join([str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", f"import json, sys\ngiven = json.loads(sys.argv[1])\n{code}", json.dumps(given)],
            env=os.environ
            | where
            | {"RANK": str(n), "LOCAL_RANK": str(n), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
            | {"PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    try:
        told = [child.communicate(timeout=timeout)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * processes, "\n".join(told)
    return told
