"""Search with a checkpoint: a query and a history go in, items come out.

Run `make demo` first, then: python examples/search.py
"""

from onesearch import Market, Searcher

market = Market.load("runs/demo/market")
titles = dict(zip(market.items["item_id"], market.items["title"]))
searcher = Searcher.from_pretrained("runs/demo/checkpoint")
print("settings of this checkpoint:", searcher.config)

history = list(titles)[:3]
for item_id in history:
    print("bought before:", titles[item_id])
for hit in searcher.search("shelf", history=history, top_k=5):
    print(f"{hit.score:6.2f}  {searcher.tokenizer.sid_string(hit.sid)}  {titles[hit.item_id]}")
