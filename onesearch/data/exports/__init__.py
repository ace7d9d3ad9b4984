"""Make a market of a shop's exports: a table of products and a log of events, in the formats and spellings of shop systems.

`read_shop` is the one function. `names` knows the columns of shop systems, `values` and `paths` read cells, `products` and `events` turn
rows into the rows of the market's tables, which `onesearch.data.rows` checks as those of every other source.
"""

from .report import FileReport, ShopReport
from .shop import Shop, read_shop

__all__ = ["FileReport", "Shop", "ShopReport", "read_shop"]
