"""The model: its loss, its weights on disk, its BART origin, and that every way of running it agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import (
    LONG_VIEW,
    TEXT_TOKENS,
    gradients,
    random_codes,
    random_prompts,
    save_tiny_bart,
    sid_batch,
    tiny_index,
    tiny_model,
    with_places,
)
from transformers.models.bart.modeling_bart import BartEncoder

from onesearch import OneSearchForConditionalGeneration, SidTokenizer
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.packing_onesearch import PACKED_SDPA

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(40, CODEBOOK_SIZES, seed=1)
STARTS = np.cumsum([TEXT_TOKENS, *CODEBOOK_SIZES[:-1]])


@pytest.fixture
def model():
    return tiny_model(CODEBOOK_SIZES, CODES)


# The loss


def test_a_sid_is_scored_over_its_level_s_slice(model):
    batch = sid_batch(model, CODES, 5)
    out = model(**batch)
    expected = 0.0
    for level, (start, width) in enumerate(zip(STARTS, CODEBOOK_SIZES)):
        part = out.logits[:, level, start : start + width]
        expected += F.cross_entropy(part, batch["labels"][:, level] - start, reduction="sum")
    torch.testing.assert_close(out.loss, expected / batch["labels"].numel())


def test_text_is_scored_over_the_whole_vocabulary(model):
    batch = sid_batch(model, CODES, 4)
    labels = torch.randint(3, TEXT_TOKENS, (4, 6), generator=torch.Generator().manual_seed(0))
    labels[0, 4:] = -100
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)
    torch.testing.assert_close(out.loss, F.cross_entropy(out.logits.flatten(0, 1), labels.flatten()))


def test_text_and_sids_mix_in_one_batch(model):
    batch = sid_batch(model, CODES, 2)
    labels = torch.tensor([[5, 6, STARTS[0] + 3, STARTS[1], 2], [STARTS[2] + 1, 7, -100, STARTS[0], -100]])
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)
    losses = []
    for row, column in (labels != -100).nonzero().tolist():
        target = int(labels[row, column])
        level = int(np.searchsorted(STARTS, target, side="right")) - 1
        start, stop = model.config.sid_slice(level) if level >= 0 else (0, model.config.vocab_size)
        losses.append(F.cross_entropy(out.logits[row, column, start:stop], torch.tensor(target - start)))
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())


def test_scores_of_targets_are_what_they_are_called(model):
    batch = sid_batch(model, CODES, 3)
    batch["labels"][0, 2] = -100
    hidden = decoder_states(model, batch)
    log_probs, entropy, is_top, is_target = model.score_targets(hidden, batch["labels"])
    assert torch.equal(is_target, batch["labels"] != -100)
    for row in range(3):
        for level in range(3):
            if batch["labels"][row, level] == -100:
                assert log_probs[row, level] == entropy[row, level] == is_top[row, level] == 0
                continue
            start, stop = model.config.sid_slice(level)
            own = model.lm_head(hidden[row, level])[start:stop].log_softmax(0)
            target = batch["labels"][row, level] - start
            torch.testing.assert_close(log_probs[row, level], own[target])
            torch.testing.assert_close(entropy[row, level], -(own.exp() * own).sum())
            assert is_top[row, level] == float(own.argmax() == target)


def decoder_states(model, batch):
    return model.model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=model.prepare_decoder_input_ids_from_labels(batch["labels"]),
    ).last_hidden_state


def test_over_the_trie_s_children_a_target_scores_what_the_search_gives_it(model):
    batch = sid_batch(model, CODES, 12)
    model.config.sid_softmax = "children"
    log_probs, entropy, is_top, _ = model.score_targets(decoder_states(model, batch), batch["labels"])
    prompts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = model.search(**prompts, num_beams=len(CODES), top_k=len(CODES), items_per_sid=5, explain=True)
    codes = (batch["labels"] - torch.from_numpy(STARTS)).tolist()
    for row, hits in enumerate(found):
        hit = next(hit for hit in hits if hit.sid == tuple(codes[row]))
        torch.testing.assert_close(log_probs[row], torch.tensor(hit.level_scores), atol=1e-5, rtol=1e-5)
    prefixes = [{tuple(sid[: level + 1]) for sid in CODES.tolist()} for level in range(3)]
    alone = [[sum(prefix[:-1] == tuple(row[:level]) for prefix in prefixes[level]) == 1 for level in range(3)] for row in codes]
    assert any(map(any, alone)) and not all(map(all, alone))
    only_child = torch.tensor(alone)
    assert (log_probs[only_child] == 0).all() and (entropy[only_child] == 0).all() and (is_top[only_child] == 1).all()
    assert (log_probs[~only_child] < 0).all() and (entropy[~only_child] > 0).all()
    log_probs.sum().backward()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


def test_what_is_no_sid_of_the_catalogue_is_scored_over_its_level(model):
    """Texts, cut SIDs, and SIDs of queries that no item has, among those of items."""
    batch = sid_batch(model, CODES, 6)
    known = {tuple(sid) for sid in CODES.tolist()}
    missing = next(
        sid for sid in np.ndindex(*CODEBOOK_SIZES) if sid not in known and any(sid[:2] == other[:2] for other in known)
    )
    batch["labels"][1] = torch.tensor(missing) + torch.from_numpy(STARTS)
    batch["labels"][2, 2] = -100
    batch["labels"][3] = torch.tensor([5, 6, 7])
    batch["labels"][4, 1] = 5
    hidden = decoder_states(model, batch)
    over_level = model.score_targets(hidden, batch["labels"]).log_probs
    model.config.sid_softmax = "children"
    over_children = model.score_targets(hidden, batch["labels"]).log_probs
    torch.testing.assert_close(over_children[1:5], over_level[1:5])
    assert (over_children[[0, 5]] >= over_level[[0, 5]]).all() and (over_children[[0, 5], 2] > over_level[[0, 5], 2]).all()
    short = model.score_targets(hidden[:1, :2], batch["labels"][:1, :2]).log_probs
    torch.testing.assert_close(short, over_level[:1, :2])
    model.config.sid_softmax = "vocabulary"
    with pytest.raises(ValueError, match="'vocabulary'.*'level' and 'children'"):
        model.score_targets(hidden, batch["labels"])


# Ways of running it


def test_attention_implementations_agree(model, tmp_path):
    model.save_pretrained(tmp_path)
    batch = sid_batch(model, CODES, 4)
    outputs, found = [], []
    for implementation in ("eager", "sdpa"):
        loaded = OneSearchForConditionalGeneration.from_pretrained(tmp_path, attn_implementation=implementation)
        assert loaded.config._attn_implementation == {"eager": "eager", "sdpa": PACKED_SDPA}[implementation]
        outputs.append(loaded(**batch).logits)
        found.append(loaded.search_sids(batch["input_ids"], batch["attention_mask"], 7))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    assert torch.equal(found[0][0], found[1][0])


def test_half_precision_runs(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = OneSearchForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    batch = sid_batch(model, CODES, 4)
    out = half(**batch)
    assert out.logits.dtype == torch.bfloat16 and out.loss.dtype == torch.float32
    torch.testing.assert_close(out.loss, model(**batch).loss, atol=0.2, rtol=0.1)
    codes, scores = half.search_sids(batch["input_ids"], batch["attention_mask"], 5)
    assert (
        scores.dtype == torch.float32 and half.sid_index.trie.leaf_of(half.sid_index.trie.walk(codes.flatten(0, 1))).min() >= 0
    )


# Padding on the left


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("long_view", [False, True])
def test_padding_on_the_left_changes_neither_loss_nor_gradients(implementation, long_view):
    """Positions are counted over the tokens; BART counts the padding before them, too."""
    model = tiny_model(CODEBOOK_SIZES, CODES, attn_implementation=implementation, **(LONG_VIEW if long_view else {})).double()
    found = {}
    for side in ("right", "left"):
        prompts = random_prompts(6, seed=2, padding_side=side)
        batch = sid_batch(model, CODES, 6, prompts=with_places(*prompts) if long_view else prompts)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found[side] = {"loss": loss.detach(), **gradients(model)}
    torch.testing.assert_close(found["left"], found["right"])


def test_generate_and_layer_states_do_not_depend_on_the_side_of_the_padding(model):
    states, generated = [], []
    for side in ("right", "left"):
        input_ids, mask = random_prompts(6, seed=2, padding_side=side)
        outputs = model.get_encoder()(input_ids=input_ids, attention_mask=mask, output_hidden_states=True)
        states.append(torch.stack(outputs.hidden_states)[:, mask.bool()])
        processors = [model.logits_processor(1)]
        generated.append(model.generate(input_ids=input_ids, attention_mask=mask, num_beams=4, logits_processor=processors))
    torch.testing.assert_close(*states)
    assert torch.equal(*generated)


def test_padding_on_the_right_leaves_every_bit_as_transformers_has_it(model):
    input_ids, mask = random_prompts(6, seed=2)
    embeddings = model.embed_prompts(input_ids)
    assert model.get_encoder()._from_first_token(embeddings, mask) is embeddings
    assert model.get_encoder()._from_first_token(embeddings, None) is embeddings
    encoder = model.get_encoder()
    encoder.config._attn_implementation = "eager"
    ours = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
    theirs = BartEncoder.forward(encoder, input_ids=input_ids, attention_mask=mask).last_hidden_state
    assert torch.equal(ours, theirs)


def test_a_compiled_encoder_counts_the_same_positions(model):
    (left, left_mask), (right, right_mask) = (random_prompts(6, seed=2, padding_side=side) for side in ("left", "right"))
    encoder = torch.compile(model.get_encoder().forward, backend="eager", fullgraph=True)
    ours = encoder(input_ids=left, attention_mask=left_mask).last_hidden_state[left_mask.bool()]
    expected = model.get_encoder()(input_ids=right, attention_mask=right_mask).last_hidden_state[right_mask.bool()]
    torch.testing.assert_close(ours, expected)


# Calls that a decoder-only model would understand


def test_calls_of_trainers_for_causal_models_are_refused(model):
    """TRL calls the backbone without decoder inputs; other trainers pass the prompts as labels."""
    input_ids, mask = random_prompts(4, seed=2)
    for call in (model, model.model):
        with pytest.raises(ValueError, match="no decoder_input_ids.*SFTTrainer.*SidSFTTrainer"):
            call(input_ids=input_ids, attention_mask=mask)
    labels = input_ids.masked_fill(mask == 0, -100)
    completion_only = labels.clone()
    completion_only[:, :2] = -100
    for rows in (labels, completion_only):
        with pytest.raises(ValueError, match="the labels are the prompts themselves.*SidSFTTrainer"):
            model(input_ids=input_ids, attention_mask=mask, labels=rows)
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels)
    copying = model(input_ids=input_ids, attention_mask=mask, labels=labels, decoder_input_ids=decoder_input_ids)
    assert copying.loss > 0
    other = labels.clone()
    other[0, 1] = 5 if input_ids[0, 1] != 5 else 6
    assert model(input_ids=input_ids, attention_mask=mask, labels=other).loss > 0


def test_inputs_longer_than_the_positions_are_refused(model):
    longest = model.config.max_position_embeddings
    fits, too_long = torch.full((1, longest), 5), torch.full((1, longest + 1), 5)
    assert model(input_ids=fits, labels=fits[:, 1:]).loss > 0
    with pytest.raises(ValueError, match=f"prompts of {longest + 1} tokens, max_position_embeddings={longest}"):
        model.search(too_long)
    with pytest.raises(ValueError, match=f"decoder inputs of {longest + 1} tokens"):
        model(input_ids=fits, labels=too_long)


# Saving and loading


def test_save_then_load_gives_the_same_logits_and_hits(model, tmp_path):
    model.save_pretrained(tmp_path)
    batch = sid_batch(model, CODES, 4)
    loaded = OneSearchForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded.sid_index.item_ids == model.sid_index.item_ids
    arguments = batch["input_ids"], batch["attention_mask"], 10
    assert loaded.search(*arguments) == model.search(*arguments)
    assert loaded.generation_config.max_new_tokens == len(CODEBOOK_SIZES) and loaded.generation_config.eos_token_id is None


def test_one_shared_embedding_lies_on_disk(model, tmp_path):
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert "model.shared.weight" in names
    assert not names & {"lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}
    assert not [name for name in names if "trie" in name or "sid" in name]
    loaded = OneSearchForConditionalGeneration.from_pretrained(tmp_path)
    shared = loaded.model.shared.weight
    assert loaded.lm_head.weight is shared
    assert loaded.model.encoder.embed_tokens.weight is shared and loaded.model.decoder.embed_tokens.weight is shared


def test_loading_info_is_passed_on(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, report = OneSearchForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert loaded.sid_index is not None


def test_a_model_without_index_saves_loads_and_refuses_to_search(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert not (tmp_path / SID_INDEX_NAME).exists()
    loaded = OneSearchForConditionalGeneration.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=SID_INDEX_NAME):
        loaded.search(torch.tensor([[0, 5, 2]]))
    with pytest.raises(ValueError, match=SID_INDEX_NAME):
        loaded.logits_processor()


# From BART


def test_a_bart_checkpoint_initialises_the_model(tmp_path):
    bart, _ = save_tiny_bart(tmp_path / "bart")
    from transformers import AutoTokenizer

    tokenizer = SidTokenizer.extend(AutoTokenizer.from_pretrained(tmp_path / "bart"), CODEBOOK_SIZES, "fingerprint")
    model = OneSearchForConditionalGeneration.from_bart(
        tmp_path / "bart", len(tokenizer), CODEBOOK_SIZES, tokenizer.sid_offset, "fingerprint"
    ).eval()
    old = bart.config.vocab_size
    assert tokenizer.sid_offset == old and model.config.vocab_size == old + sum(CODEBOOK_SIZES)
    ours, theirs = model.model.state_dict(), bart.model.state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name][: len(tensor)], tensor), name
    assert model.lm_head.weight is model.model.shared.weight
    input_ids = tokenizer(["red rain shoe"], return_tensors="pt").input_ids
    decoder_input_ids = torch.tensor([[2, 0, 7]])
    logits = model(input_ids=input_ids, decoder_input_ids=decoder_input_ids).logits
    torch.testing.assert_close(logits[..., :old], bart(input_ids=input_ids, decoder_input_ids=decoder_input_ids).logits)
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES))
    model.save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    loaded = OneSearchForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert loaded.search(input_ids, num_beams=5) == model.search(input_ids, num_beams=5)


def test_what_is_no_plain_bart_is_refused(tmp_path):
    bart, _ = save_tiny_bart(tmp_path / "bias", bias=0.5)
    old = bart.config.vocab_size
    with pytest.raises(ValueError, match="final_logits_bias"):
        OneSearchForConditionalGeneration.from_bart(tmp_path / "bias", old + 16, CODEBOOK_SIZES, old)
    save_tiny_bart(tmp_path / "bart")
    with pytest.raises(ValueError, match="SidTokenizer.extend"):
        OneSearchForConditionalGeneration.from_bart(tmp_path / "bart", old + 6, CODEBOOK_SIZES, old - 10)
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=50, **sizes)).save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match="'t5'"):
        OneSearchForConditionalGeneration.from_bart(tmp_path / "t5", 66, CODEBOOK_SIZES, 50)
