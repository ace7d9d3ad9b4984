"""Values that ``market.json`` and recipes may hold, and the attribute types. The command line and configs read them, so that this module
imports nothing."""

from __future__ import annotations

SPLIT_METHODS = ("time", "leave_last_out", "random", "none")
"""Values of ``method`` of ``split`` in ``market.json``; see `onesearch.data.requests.split_sessions`."""

ATTRIBUTE_TYPES = (
    "entity", "modifier", "brand", "material", "style", "function", "location", "audience", "color",
    "scene", "specifications", "price", "model", "anchor", "series", "marketing", "season", "pattern",
)  # fmt: skip
"""The 18 attribute types of OneSearch's named-entity recognition (arXiv 2509.03236, KHQE, core keywords)."""

RECOMMENDATION, UNKNOWN_SCENE = "recommendation", "unknown"

SCENES = ("search", RECOMMENDATION, UNKNOWN_SCENE)
"""Where a session took place: after a query, in a list that the shop recommended, or not recorded (null means the same)."""

__all__ = ["ATTRIBUTE_TYPES", "RECOMMENDATION", "SCENES", "SPLIT_METHODS", "UNKNOWN_SCENE"]
