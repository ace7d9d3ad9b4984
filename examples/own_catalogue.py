"""From rows of your own to a search: tables, Semantic IDs, training, evaluation and card in one folder.

The catalogue is made up here; replace `items` and `sessions` by yours. Run: python examples/own_catalogue.py
"""

from dataclasses import replace
from random import Random

from onesearch import Market, RunFolder, Searcher
from onesearch.pipeline.recipe import load_recipe
from onesearch.pipeline.run import run_recipe

random = Random(0)
KINDS, COLOURS = ("shoe", "coat", "lamp", "chair", "kettle", "tent"), ("red", "blue", "green", "black", "white")
items = [
    {"item_id": f"sku-{number}", "title": f"{colour} {kind} {number}", "brand": f"brand {number % 7}", "categories": [kind]}
    for number, (colour, kind) in enumerate((random.choice(COLOURS), random.choice(KINDS)) for _ in range(300))
]
sessions = []
for number in range(600):
    bought = random.choice(items)
    query = " ".join(bought["title"].split()[:2])
    session = {"session_id": f"s{number}", "user_id": f"u{number % 60}", "time": number, "query": query}
    sessions.append({**session, "clicked": [bought["item_id"]], "purchased": [bought["item_id"]]})

info = {"name": "own", "language": "en", "split": {"method": "time", "validation": 0.05, "test": 0.1}}
Market.from_rows(items=items, sessions=sessions, info=info).save("runs/own-tables", overwrite=True)

recipe = load_recipe("examples/own_catalogue.yaml")
recipe = replace(recipe, market=replace(recipe.market, source="runs/own-tables"))
run = RunFolder("runs/own")
print(run_recipe(recipe, run, resume=True, progress=False).to_table())
for hit in Searcher.from_pretrained(run.checkpoint).search("red shoe", top_k=3):
    print(hit.item_id, round(hit.score, 2))
