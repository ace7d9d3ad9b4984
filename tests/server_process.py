"""A real server in a process of its own, on a free port of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

KEY = "0123456789abcdef-key"


@contextmanager
def server(run, *flags):
    """Start `onesearch serve`, give the process and its address, and stop it at the end."""
    environment = {**os.environ, "ONESEARCH_API_KEYS": KEY, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "onesearch.cli", "serve", str(run), "--port", "0", *flags]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, f"the server did not start: {line!r}, exit code {process.poll()}"
        yield process, wait_for(found[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(address, seconds=60):
    """Wait until a server answers; return its address."""
    import httpx

    until = time.monotonic() + seconds
    while True:
        try:
            assert httpx.get(f"{address}/health").json()["status"] == "ok"
            return address
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
