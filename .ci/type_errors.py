"""Run mypy and compare the number of its errors with the one in pyproject.toml, which only goes down."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Exit code 1 if there are more errors than allowed, or fewer: then the number goes down."""
    allowed: int = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["onesearch"]["type_errors"]
    finished = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in finished.stdout.splitlines() if ": error: " in line]
    if finished.returncode > 1 or bool(errors) != bool(finished.returncode):
        print(finished.stdout + finished.stderr, file=sys.stderr)
        return finished.returncode or 1
    if len(errors) > allowed:
        print("\n".join(errors), file=sys.stderr)
        print(f"mypy: {len(errors)} errors; pyproject.toml allows {allowed} (tool.onesearch.type_errors)", file=sys.stderr)
        return 1
    if len(errors) < allowed:
        print(f"mypy: {len(errors)} errors, fewer than allowed: set tool.onesearch.type_errors to it", file=sys.stderr)
        return 1
    print(f"mypy: {len(errors)} errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
