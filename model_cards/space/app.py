"""The search page as a Space of the Hub: a checkpoint, its items, and a history that is built by choosing hits.

Environment variables: ``ONESEARCH_MODEL`` is the id of a repository or a folder; ``ONESEARCH_ITEMS`` a parquet file with the items table
(default: ``items.parquet`` beside this file; without it, hits are ids).
"""

from __future__ import annotations

import math
import os
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onesearch import Hit, Searcher, UserContext
from onesearch.data.arrow_tables import conform
from onesearch.tokenization_sid.sids.shared_facts import ItemFacts
from onesearch.tokenization_sid.tokenization_sid import sid_token

TOP = 10
TOWERS = ("click", "purchase after a click", "both")
STYLE = """
.hit { display: flex; gap: 14px; padding: 10px 0; border-bottom: 1px solid var(--border-color-primary); }
.hit b { font-size: 15px; } .hit small { color: var(--body-text-color-subdued); }
.code { display: inline-block; padding: 2px 8px; margin: 2px; border-radius: 8px; background: var(--background-fill-secondary); }
.rank { width: 26px; text-align: right; font-weight: 600; } .moved { color: #0f766e; }
"""


class Shop:
    """A checkpoint and its items.

    Args:
        model: Hub id or folder of the checkpoint.
        items: parquet file with the items table; None shows ids.
    """

    def __init__(self, model: str, items: Path | None) -> None:
        self.searcher = Searcher.from_pretrained(model)
        self.index = self.searcher.index
        self.rows: dict[str, dict[str, Any]] = {}
        self.facts: ItemFacts | None = None
        if items is not None and items.is_file():
            table: pa.Table = conform("items", pq.read_table(items), origin=str(items)).combine_chunks()
            known = table.filter(pa.array(self.index.contains(table.column("item_id").to_pylist())))
            columns = known.select(["item_id", "title", "brand", "price"]).to_pylist()
            self.rows = {row["item_id"]: row for row in columns}
            self.facts, self.codes = ItemFacts(known), self.index.codes_of(list(self.rows))

    def title(self, item_id: str) -> str:
        """Title of an item; its id if it has none."""
        return (self.rows.get(item_id) or {}).get("title") or item_id

    def search(self, query: str, history: list[str], categories: list[str]) -> tuple[list[Hit], dict[str, int]]:
        """The hits, and the rank of each item when nothing is known of the user."""
        settings: dict[str, Any] = {"categories": categories or None, "explain": True}
        hits = self.searcher.search(query, history, TOP, context=UserContext(clicked=history), **settings)
        plain = self.searcher.search(query, top_k=50, categories=categories or None) if history else hits
        return hits, {hit.item_id: rank for rank, hit in enumerate(plain, start=1)}

    def page(self, hits: list[Hit], before: dict[str, int]) -> str:
        """The hits as HTML, with the path of codes and the towers of each."""
        return "".join(self._hit(rank, hit, before.get(hit.item_id)) for rank, hit in enumerate(hits, start=1))

    def _hit(self, rank: int, hit: Hit, before: int | None) -> str:
        row = self.rows.get(hit.item_id) or {}
        moved = "" if before == rank else f'<span class="moved">{"new" if before is None else f"was {before}"}</span>'
        price = None if row.get("price") is None else f"{row['price']:,.2f}"
        about = " · ".join(part for part in (row.get("brand"), price) if part)
        towers = [f"{name} {chance:.1%}" for name, chance in zip(TOWERS, hit.towers or ())]
        lines = [f"<b>{escape(self.title(hit.item_id))}</b> {moved}", escape(about), self._path(hit), ", ".join(towers)]
        text = "<br>".join(line for line in lines if line)
        return (
            f'<div class="hit"><span class="rank">{rank}</span><div>{text}<br><small>score {hit.score:.3f}</small></div></div>'
        )

    def _path(self, hit: Hit) -> str:
        """Each code with its probability and the value that most items under it share."""
        parts = []
        rows = np.arange(len(self.rows))
        for level, (code, score) in enumerate(zip(hit.sid, hit.level_scores or ())):
            meaning = ""
            if self.facts is not None:
                above, rows = rows, rows[self.codes[rows, level] == code]
                meaning = ", ".join(fact.value for fact in self.facts.shared(rows, above, most=2))
            token = escape(sid_token(level, code))
            parts.append(f'<span class="code">{token} {math.exp(score):.0%} <small>{escape(meaning)}</small></span>')
        return " ".join(parts)


def build(shop: Shop) -> gr.Blocks:
    """The page of a shop."""

    def search(query: str, history: list[str], categories: list[str]) -> tuple[str, dict[str, Any]]:
        if not query.strip():
            return "<p>Type a query.</p>", gr.update(choices=[], value=None)
        hits, before = shop.search(query, history, categories)
        choices = [(shop.title(hit.item_id), hit.item_id) for hit in hits]
        return shop.page(hits, before) or "<p>No item fits.</p>", gr.update(choices=choices, value=None)

    def remember(item: str | None, history: list[str]) -> tuple[list[str], str]:
        known = [*history, item] if item else history
        return known, "\n".join(f"* {shop.title(one)}" for one in reversed(known)) or "*nothing yet*"

    def forget() -> tuple[list[str], str]:
        return [], "*nothing yet*"

    with gr.Blocks(title="OneSearch") as page:
        history = gr.State([])
        gr.Markdown(f"# OneSearch\n{len(shop.index):,} items. Choose a hit: it joins your history, and the hits change.")
        with gr.Row():
            with gr.Column(scale=3):
                query = gr.Textbox(label="Query", placeholder="Search the catalogue", autofocus=True)
                hits = gr.HTML("<p>Type a query.</p>")
            with gr.Column(scale=1):
                chosen = gr.Radio([], label="Add to the history")
                shown = gr.Markdown("*nothing yet*")
                clear = gr.Button("Clear the history")
                categories = gr.Dropdown(shop.index.categories[:500], multiselect=True, label="Categories")
        inputs, outputs = [query, history, categories], [hits, chosen]
        gr.on([query.submit, query.change, categories.change], search, inputs, outputs, trigger_mode="always_last")
        chosen.input(remember, [chosen, history], [history, shown]).then(search, inputs, outputs)
        clear.click(forget, None, [history, shown]).then(search, inputs, outputs)
    return page


if __name__ == "__main__":
    items = Path(os.environ.get("ONESEARCH_ITEMS", Path(__file__).with_name("items.parquet")))
    build(Shop(os.environ["ONESEARCH_MODEL"], items)).launch(css=STYLE)
