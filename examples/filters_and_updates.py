"""Restrict a search to some items, and change the catalogue without training.

Run `make demo` first, then: python examples/filters_and_updates.py
"""

from onesearch import Searcher

searcher = Searcher.from_pretrained("runs/demo/checkpoint")
index = searcher.model.sid_index

category = index.categories[0]
hits = searcher.search("jacket", categories=[category], top_k=3)
print(f"only in {category!r}:", [hit.item_id for hit in hits])

best = hits[0]
print(
    "without the first hit:",
    [hit.item_id for hit in searcher.search("jacket", categories=[category], exclude=[best.item_id], top_k=3)],
)

index.add_items(
    ["new-item"], [best.sid], popularity=[10**6], categories=[[category]]
)  # a new item with the codes of the first hit
print("after an addition:", [hit.item_id for hit in searcher.search("jacket", categories=[category], top_k=3)])

index.remove_items([best.item_id])
print("after a removal:", [hit.item_id for hit in searcher.search("jacket", categories=[category], top_k=3)])
# index.save_updates("runs/demo/checkpoint/sid_index.safetensors") would keep both changes
