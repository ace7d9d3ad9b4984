"""Seventeen shops that differ: `onesearch new` without other arguments must serve each of them."""

from __future__ import annotations

from .shop import ShopSpec
from .words import CHINESE, ENGLISH, GERMAN, JAPANESE

OUTDOOR = ShopSpec("outdoor", 300, searches=1_000, users=150, departments=3, files="webshop", descriptions=True)
"""A shop like that of the issue: 300 products and a log of some 2,500 events, exported as shops do."""

SHOPS = (
    OUTDOOR,
    ShopSpec("thin-log", 400, searches=80, users=40, seed=1),
    ShopSpec("items-only", 500, seed=2),
    ShopSpec("german", 600, words=(GERMAN,), searches=2_500, users=200, files="german", seed=3),
    ShopSpec("chinese", 600, words=(CHINESE,), searches=2_500, users=200, files="json", seed=4),
    ShopSpec("japanese", 500, words=(JAPANESE,), searches=2_000, users=200, files="json", seed=5),
    ShopSpec("one-brand", 400, searches=1_500, users=100, brands=1, seed=6),
    ShopSpec("many-brands", 2_000, searches=6_000, users=400, brands=1_500, files="report", seed=7),
    ShopSpec("variants", 900, searches=3_000, users=200, variants=6, seed=8),
    ShopSpec("tags", 600, searches=2_500, users=200, categories=False, tags=True, files="webshop", seed=9),
    ShopSpec("anonymous", 800, searches=4_000, users=0, taste=0.0, files="report", seed=10),
    ShopSpec("german-items-only", 1_000, words=(GERMAN,), files="german", seed=11),
    ShopSpec("chinese-items-only", 1_000, words=(CHINESE,), files="json", seed=12),
    ShopSpec("mixed", 1_500, words=(ENGLISH, GERMAN, CHINESE), searches=6_000, users=400, seed=13),
    ShopSpec("large", 5_000, searches=15_000, users=800, brands=200, files="parquet", seed=14),
    ShopSpec("largest", 20_000, searches=40_000, users=2_000, brands=2_000, files="parquet", seed=15),
    ShopSpec("orders-only", 600, searches=12_000, users=300, files="orders", seed=16),
)

TINY = ShopSpec("tiny", 40, searches=120, users=20, departments=1, files="webshop", descriptions=True)
"""A shop that trains in seconds."""

__all__ = ["OUTDOOR", "SHOPS", "TINY"]
