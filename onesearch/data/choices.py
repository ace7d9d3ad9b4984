"""Values that ``market.json`` may hold. The command line offers them, so that this module imports nothing."""

from __future__ import annotations

SPLIT_METHODS = ("time", "leave_last_out", "random", "none")
"""Values of ``method`` of ``split`` in ``market.json``; see `onesearch.data.requests.split_sessions`."""

LANGUAGES = ("en", "zh")
"""Values of ``language`` in ``market.json``. BM25 splits ``zh`` into bigrams, and ``en`` at everything that is no letter or digit, which
fits other languages with spaces as well, except for its English stemming."""

__all__ = ["LANGUAGES", "SPLIT_METHODS"]
