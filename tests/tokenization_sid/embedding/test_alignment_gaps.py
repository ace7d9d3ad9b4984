"""Losses without examples are named, with the reason, wherever an alignment is reported."""

from __future__ import annotations

from dataclasses import asdict

from onesearch.data.splits import RANDOM_NOTE
from onesearch.files import write_json
from onesearch.model_cards.card import write_card
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import EvaluationConfig
from onesearch.tokenization_sid.embedding.alignment_gaps import WEIGHT_0, left_out_sentence, losses_left_out
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, MiningConfig


def report_of(config: AlignmentConfig | None = None, **changes: tuple[int, int]) -> dict:
    """An alignment report with 7 mined and kept examples of each kind, except for the (mined, kept) of `changes`."""
    numbers = {**dict.fromkeys(("q2q", "i2i", "q2i", "rank", "relevance"), (7, 7)), **changes}
    config = config or AlignmentConfig(mining=MiningConfig(min_cosine=0.6))
    return {
        "config": asdict(config),
        "examples": {kind: {"mined": mined, "kept": kept} for kind, (mined, kept) in numbers.items()},
    }


def test_nothing_is_said_where_every_loss_has_examples():
    assert losses_left_out(report_of()) == {} and left_out_sentence(report_of()) is None


def test_each_loss_without_examples_has_its_reason():
    report = report_of(rank=(0, 0), relevance=(0, 0), i2i=(1234, 0))
    reasons = losses_left_out(report)
    assert list(reasons) == ["i2i", "rank", "relevance"]
    assert reasons["i2i"] == "none of the 1,234 mined pairs has a cosine of at least 0.6 under the base encoder"
    assert "bought > clicked > shown" in reasons["rank"] and "no judged item" in reasons["relevance"]
    sentence = left_out_sentence(report)
    assert sentence is not None and sentence.startswith(
        "the alignment trained 2 of 5 losses (q2q, q2i); no examples for i2i: none of"
    )
    weightless = report_of(AlignmentConfig(q2q=0.0), q2q=(0, 0))
    assert losses_left_out(weightless) == {"q2q": WEIGHT_0}
    assert left_out_sentence(weightless) == "the alignment trained 4 of 5 losses (i2i, q2i, rank, relevance); weight 0: q2q"


def test_the_evaluation_and_the_card_name_them_and_the_random_split(run):
    """The tiny run as if it had been aligned without clicks and judgements, on a market that is split at random."""
    write_json(run.embeddings / "alignment.json", report_of(rank=(0, 0), relevance=(0, 0)))
    report = evaluate_run(run, EvaluationConfig(sample=5), name="aligned", baselines=False, progress=False)
    sentence = left_out_sentence(report_of(rank=(0, 0), relevance=(0, 0)))
    assert sentence in report.notes and RANDOM_NOTE not in report.notes
    assert f"* {sentence}" in report.to_table() and report.to_table().startswith("simulated, test split (time): 5 requests")
    report.save(run.evaluation)
    assert f"* {sentence}" in write_card(run, name="tiny").read_text(encoding="utf-8")
