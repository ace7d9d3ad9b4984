"""Made users: their histories share facets with the target, which is not among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.configs import TrainingConfig
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.sft.data.tastes import ALIKE, BOUGHT, LOVED, Tastes


def item(number, **values):
    return {"item_id": f"i{number}", "title": f"thing {number}", "categories": ["All", f"Kind {number % 5}"], **values}


ITEMS = [item(number, brand=f"brand {number % 10}", attributes={"color": [f"color {number % 7}"]}) for number in range(700)]


@pytest.fixture(scope="module")
def tastes():
    return Tastes(Market.from_rows(items=ITEMS), 50)


def test_histories_share_facets_with_the_target_and_leave_it_out(tastes):
    targets = np.arange(600)
    made = tastes.draw(targets, np.random.default_rng(0))
    owner = np.repeat(targets, made.items.lengths)
    assert (made.items.values != owner).all() and made.items.lengths.max() <= 20 and (made.items.lengths == 20).any()
    same = {size: (made.items.values % size == owner % size).mean() for size in (5, 7, 10)}  # category, colour, brand
    # Of three facets and the price none: each is loved by half; a loved one is drawn for ALIKE of the items, shared among the loved.
    share = ALIKE * (LOVED * (1 - LOVED) ** 2 + 2 * LOVED**2 * (1 - LOVED) / 2 + LOVED**3 / 3)
    for size, found in same.items():
        others = 1 - share
        assert share < found < share + 0.75 * others, size
    assert 0.27 < made.bought.mean() < 0.33 and BOUGHT == 0.3


def test_queries_name_the_category_and_half_of_them_another_facet(tastes):
    made = tastes.draw(np.arange(600), np.random.default_rng(0))
    assert all(query.endswith(f"kind {row % 5}") for row, query in enumerate(made.queries))
    named = [query for query in made.queries if query.startswith(("brand", "color"))]
    assert 0.44 < len(named) / 600 < 0.56


def test_the_same_seed_draws_the_same_users(tastes):
    one, same, other = (tastes.draw(np.arange(50), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.queries == same.queries and one.items.tolist() == same.items.tolist() != other.items.tolist()


def test_items_without_facets_have_random_histories_and_no_query():
    bare = Tastes(Market.from_rows(items=[{"item_id": f"i{n}", "title": "thing"} for n in range(30)]), 3)
    made = bare.draw(np.arange(30), np.random.default_rng(0))
    assert made.queries == [""] * 30 and made.items.lengths.max() == 3


@pytest.mark.parametrize("form", ["tokens", "vector"])
def test_examples_show_the_made_history_in_both_forms(shared_run, recipe, form):
    layout = replace(PLAIN_LAYOUT, items=6, item_form=form)
    config = replace(
        TrainingConfig(), prompt=layout, model=recipe.training.model, examples=replace(TrainingConfig().examples, copies=2)
    )
    builder = load_inputs(shared_run, config).builder
    (table, *_) = list(builder.chunks("item-tastes", "train"))
    assert len(table) == 2 * len(builder.market.items)
    labels = np.stack(table.column("labels").to_numpy())
    items = len(builder.market.items)
    assert np.array_equal(builder.tokenizer.ids_to_sids(labels[:items]), builder.views.item_sids)
    prompt = np.asarray(table.column("input_ids")[3].as_py())
    if form == "vector":
        events = np.asarray(table.column("history")[3].as_py()).reshape(-1, 3)
        assert 0 < (prompt == builder.tokenizer.history_token_id).sum() == len(events) <= 6
    else:
        assert (prompt >= builder.tokenizer.sid_offset).sum() % len(builder.views.codebook_sizes) == 0
