"""Histories as vectors: where the vectors go, what they are made of, and that every way of running the model sees the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import LONG_VIEW, SID_MODELS, TEXT_TOKENS, gradients, random_codes, random_long_view, random_prompts, sid_batch
from tiny import with_places as with_long_view

from onesearch.modeling_onesearch.history_fields_onesearch import FIRST_FACET

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)
STARTS = np.cumsum([TEXT_TOKENS, *CODEBOOK_SIZES[:-1]])
ITEM, SUMMARY = 4, 5
HISTORY = {
    "history_places": 6,
    "history_token_id": ITEM,
    "history_vector_size": 5,
    "history_facets": 12,
    "history_ids": 7,
    "history_summaries": [0, 4, 6, 12],
    "history_summary_token_id": SUMMARY,
}
LENGTHS = [3, 0, 6, 1]


def make(kind, **changes):
    model = SID_MODELS[kind](CODEBOOK_SIZES, CODES, **{**HISTORY, **changes})
    reader = model._prompt_reader().history_reader
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():  # as after some training: these begin at zero
        for table in (reader.ids, reader.kinds, reader.gaps):
            if table is not None:
                table.weight[1:] = 0.3 * torch.randn(table.weight[1:].shape, generator=generator)
    return model


@pytest.fixture(params=SID_MODELS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return make(kind)


def history_of(lengths=LENGTHS, seed=0, facets=3):
    """Items of histories of these lengths, and their text vectors."""
    random = np.random.default_rng(seed)
    items = np.full((len(lengths), max(lengths), 3 + FIRST_FACET + facets), -1)
    items[..., 4:6] = 0
    vectors = np.zeros((*items.shape[:2], 5), dtype=np.float32)
    for row, length in enumerate(lengths):
        items[row, :length, :3] = CODES[random.integers(0, len(CODES), length)]
        for column, most in zip((3, 4, 5), (3, 24, 8)):
            items[row, :length, column] = random.integers(0, most, length)
        items[row, :length, 6:] = random.integers(-1, 12, (length, facets))
        vectors[row, :length] = random.normal(size=(length, 5))
    return {"history_items": torch.from_numpy(items), "history_vectors": torch.from_numpy(vectors)}


def prompts_of(model, lengths=LENGTHS, padding_side=None, seed=0):
    """Prompts with a place for each item behind those of the summaries; padded as `generate` needs it."""
    padding_side = padding_side or ("right" if model.config.is_encoder_decoder else "left")
    input_ids, mask = random_prompts(len(lengths), seed=seed)
    summaries = len(model.config.summary_ranges)
    rows = []
    for row, length in enumerate(lengths):
        own = input_ids[row][mask[row].bool()]
        own = own[(own != ITEM) & (own != SUMMARY)].tolist()
        rows.append([*own, *([SUMMARY] * summaries if length else []), *[ITEM] * length, 2])
    longest = max(map(len, rows))
    padded = [row + [1] * (longest - len(row)) if padding_side == "right" else [1] * (longest - len(row)) + row for row in rows]
    ids = torch.tensor(padded)
    return ids, (ids != 1).long()


def generated(model, input_ids, attention_mask, beams, **kwargs):
    """Codes and scores of transformers' own beam search with the processor."""
    length = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    out = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,
        logits_processor=[model.logits_processor(length)],
        output_scores=True,
        return_dict_in_generate=True,
        **kwargs,
    )
    codes = out.sequences[:, length:].view(len(input_ids), beams, -1) - torch.from_numpy(STARTS)
    return codes, out.sequences_scores.view(len(input_ids), beams)


def assert_same(found, expected):
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=0)


def by_hand(reader, config, embed, items, vector, age):
    """The vector of one item, term by term."""
    codes = [embed(torch.tensor(TEXT_TOKENS + sum(CODEBOOK_SIZES[:level]) + int(items[level]))) for level in range(3)]
    state = sum(code * weight for code, weight in zip(codes, reader.level_weights))
    state = state + reader.kinds.weight[items[3] + 1] + reader.gaps.weight[items[4]] + reader.recency.weight[age]
    state = state + reader.text.weight @ vector + reader.ids.weight[items[5]]
    for facet in items[6:].tolist():
        state = state + (reader.facets.weight[facet + 1] if facet >= 0 else 0)
    return reader.norm(state)


def test_the_vector_of_an_item_is_the_sum_of_its_inputs_in_its_place(model):
    (input_ids, _), history = prompts_of(model), history_of()
    prompt_reader = model._prompt_reader()
    reader, embed = prompt_reader.history_reader, prompt_reader.embed_tokens
    with torch.no_grad():
        found = model.embed_prompts(input_ids, **history)
        tokens = embed(input_ids)
        for row, length in enumerate(LENGTHS):
            (places,) = (input_ids[row] == ITEM).nonzero(as_tuple=True)
            for number, place in enumerate(places.tolist()):
                own = history["history_items"][row, number]
                expected = by_hand(
                    reader, model.config, embed, own, history["history_vectors"][row, number], length - 1 - number
                )
                torch.testing.assert_close(found[row, place], expected, atol=1e-5, rtol=1e-4)
        others = (input_ids != ITEM) & (input_ids != SUMMARY)
        assert torch.equal(found[others], tokens[others])


def test_a_summary_is_the_mean_of_one_kind_of_facet_over_the_whole_history(model):
    history = history_of()
    reader = model._prompt_reader().history_reader
    items = history["history_items"]
    with torch.no_grad():
        summaries = reader._summaries(items[..., 6:], items[..., 0] >= 0)
    for row, length in ((0, 3), (2, 6)):
        for number, (first, end) in enumerate(model.config.summary_ranges):
            mean = torch.zeros(reader.summary.in_features)
            for item in range(length):
                for facet in items[row, item, 6:].tolist():
                    mean += reader.facets.weight[facet + 1].detach() / length if first <= facet < end else 0
            bucket = {3: 1, 6: 2}[length]
            normed = torch.layer_norm(mean, mean.shape)
            expected = reader.summary(normed) + reader.summary_kinds[number] + reader.lengths.weight[bucket]
            torch.testing.assert_close(summaries[row, number], reader.summary_norm(expected).detach(), atol=1e-5, rtol=1e-4)


def test_what_is_unknown_of_an_item_changes_nothing(kind):
    """An item that is new at serving: no own embedding, no facet, no kind, no age, and zeros for its text."""
    model = make(kind, history_summaries=[], history_summary_token_id=None)
    bare = make(kind, history_summaries=[], history_vector_size=0, history_facets=0, history_ids=0)
    bare.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in bare.state_dict()})
    prompts, history = prompts_of(model), history_of()
    history["history_items"][..., 3] = -1
    history["history_items"][..., 4:6] = 0
    history["history_items"][..., 6:] = -1
    history["history_vectors"][:] = 0
    codes_alone = {"history_items": history["history_items"][..., :6]}
    assert_same(model.search_sids(*prompts, 6, **history), bare.search_sids(*prompts, 6, **codes_alone))
    without_vectors = {"history_items": history["history_items"]}
    assert_same(model.search_sids(*prompts, 6, **history), model.search_sids(*prompts, 6, **without_vectors))


def test_search_finds_what_generate_finds(model):
    prompts, history = prompts_of(model), history_of()
    assert_same(model.search_sids(*prompts, 7, **history), generated(model, *prompts, 7, **history))
    for side in ("left", "right"):
        assert_same(
            model.search_sids(*prompts_of(model, padding_side=side), 7, **history), model.search_sids(*prompts, 7, **history)
        )


def test_a_history_matters_only_to_its_own_row_and_a_row_alone_gives_the_same(model):
    prompts, history = prompts_of(model), history_of()
    codes, scores = model.search_sids(*prompts, 6, **history)
    other = {name: tensor.clone() for name, tensor in history.items()}
    other["history_items"][2, 1, 6:] = torch.tensor([1, 7, 11])
    changed = (model.search_sids(*prompts, 6, **other)[1] - scores).abs().amax(1)
    assert changed[2] > 1e-3 and changed[[0, 1, 3]].max() == 0
    alone = model.search_sids(prompts[0][[2]], prompts[1][[2]], 6, **{name: part[[2]] for name, part in history.items()})
    assert torch.equal(alone[0][0], codes[2])
    torch.testing.assert_close(alone[1][0], scores[2], atol=1e-5, rtol=0)


def test_filters_per_query_take_the_history_of_their_rows(model):
    prompts, history = prompts_of(model), history_of()
    some = model.sid_index.filter(items=[f"item-{row}" for row in range(0, 60, 2)])
    hits = model.search(*prompts, 8, item_filter=[some, None, some, None], **history)
    for row, item_filter in enumerate((some, None, some, None)):
        own = {name: part[[row]] for name, part in history.items()}
        (alone,) = model.search(prompts[0][[row]], prompts[1][[row]], 8, item_filter=item_filter, **own)
        assert [hit.item_id for hit in hits[row]] == [hit.item_id for hit in alone]


def test_long_view_and_history_stand_in_one_prompt(kind):
    model = make(kind, **LONG_VIEW)
    input_ids, mask = with_long_view(*prompts_of(model))
    views = {**history_of(), "long_view_codes": random_long_view(4, CODEBOOK_SIZES)}
    found = model.search_sids(input_ids, mask, 6, **views)
    assert_same(found, generated(model, input_ids, mask, 6, **views))
    assert found[1].isfinite().all()


def test_every_input_learns(model):
    model.train()
    prompts = prompts_of(model)
    batch = {**sid_batch(model, CODES, 4, 0, prompts), **history_of(seed=1)}
    model(**batch).loss.backward()
    names = {name for name, gradient in gradients(model).items() if "history_reader" in name and gradient.any()}
    parts = (
        "level_weights",
        "text",
        "facets",
        "ids",
        "kinds",
        "gaps",
        "recency",
        "norm",
        "summary",
        "summary_kinds",
        "lengths",
    )
    for part in parts:
        assert any(f"history_reader.{part}" in name for name in names), part


def test_a_batch_without_histories_trains_with_a_gradient_for_every_parameter(model):
    """Data parallelism waits for every parameter."""
    model.train()
    batch = sid_batch(model, CODES, 4, 0, prompts_of(model, [0, 0, 0, 0]))
    with_empty = {**batch, **history_of([0, 0, 0, 1])}
    with_empty["history_items"][3] = -1
    with_empty["history_items"][3, :, 4:6] = 0
    for inputs in (batch, with_empty):
        model.zero_grad()
        model(**inputs).loss.backward()
        missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert not missing


def test_a_model_without_histories_is_the_same_as_ever(kind):
    plain = SID_MODELS[kind](CODEBOOK_SIZES, CODES)
    own = make(kind).state_dict()
    reader = [name for name in own if "history_reader" in name]
    assert reader and set(own) - set(reader) == set(plain.state_dict())
    with pytest.raises(ValueError, match="history_places=0"):
        plain.search_sids(*prompts_of(make(kind)), 5, **history_of())


def test_saved_and_loaded_models_give_the_same_numbers(model, tmp_path):
    prompts, history = prompts_of(model), history_of()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.summary_ranges == [(0, 4), (6, 12)]
    assert_same(loaded.search_sids(*prompts, 6, **history), model.search_sids(*prompts, 6, **history))


def test_the_compiler_sees_one_graph(model):
    """Through the tracer alone: no machine code is made."""
    reader = model._prompt_reader()
    (input_ids, mask), history = prompts_of(model), history_of()
    inputs = {"input_ids": input_ids, "attention_mask": mask, **history}
    compiled = torch.compile(reader, backend="eager", fullgraph=True)
    is_token = mask.bool() if model.config.is_encoder_decoder else torch.ones_like(mask).bool()
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).last_hidden_state[is_token], reader(**inputs).last_hidden_state[is_token])


def test_a_free_generation_never_emits_a_place(model):
    assert {ITEM, SUMMARY} <= set(model.generation_config.suppress_tokens)


WRONG = {
    "one place too few": (lambda own: own["history_items"][2, 5:, :3].fill_(-1), "row 2 has 5 history_items and 6 places"),
    "a code": (lambda own: own["history_items"][0, 0, 1:2].fill_(4), r"codes of level 1 lie outside -1\.\.3"),
    "a kind": (lambda own: own["history_items"][0, 0, 3:4].fill_(3), r"kinds lie outside -1\.\.2"),
    "a gap": (lambda own: own["history_items"][0, 0, 4:5].fill_(24), r"gaps lie outside 0\.\.23"),
    "an own embedding": (lambda own: own["history_items"][0, 0, 5:6].fill_(8), r"own embeddings lie outside 0\.\.7"),
    "a facet": (lambda own: own["history_items"][0, 0, 6:7].fill_(12), r"facets lie outside -1\.\.11"),
    "vectors": (lambda own: own.update(history_vectors=torch.zeros(4, 6, 4)), r"history_vectors of shape \(4, 6, 4\)"),
    "columns": (lambda own: own.update(history_items=own["history_items"][..., :5]), r"history_items of shape \(4, 6, 5\)"),
    "none": (lambda own: own.clear(), "there are no history_items"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_wrong_inputs_are_refused_by_name(change, message):
    model, history = make("encoder-decoder"), history_of()
    change(history)
    with pytest.raises(ValueError, match=message):
        model.search_sids(*prompts_of(model), 5, **history)


FIELDS = {
    "places": ({"history_places": -1}, r"history_places=-1: allowed are 0\.\."),
    "token": ({"history_token_id": None}, "history_token_id=None"),
    "token of a SID": ({"history_token_id": TEXT_TOKENS}, f"history_token_id={TEXT_TOKENS}"),
    "summaries": ({"history_summaries": [0, 13]}, r"within 0\.\.12"),
    "summary token": ({"history_summary_token_id": None}, "history_summary_token_id=None"),
}


@pytest.mark.parametrize("changes, message", FIELDS.values(), ids=FIELDS)
def test_wrong_configurations_are_refused_by_name(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        SID_MODELS[kind](CODEBOOK_SIZES, CODES, **{**HISTORY, **changes})


def test_exports_refuse_histories_by_name(model, tmp_path):
    with pytest.raises(ValueError, match="item_form: tokens"):
        model.export_backbone(tmp_path / "plain")
