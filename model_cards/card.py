"""The card of a checkpoint, filled with the measurements of its run. Generated parts are renewed; what people write is kept."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from huggingface_hub import ModelCard

from onesearch.data.market import Market
from onesearch.evaluation.reports import METRICS_NAME, Report, load_report
from onesearch.files import RunFolder, atomic_file
from onesearch.modeling_onesearch.card_onesearch import CARD_NAME, merge_cards, seal_blocks
from onesearch.signed_text import SIGNATURE, is_unedited, signed

from .card_values import card_values, diagnostics
from .eval_results import write_eval_results
from .metadata import LICENSE, card_data
from .training_text import training_text

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("card_template.md")


def write_card(
    run: RunFolder, name: str, repository: str | None = None, revision: str | None = None, license: str = LICENSE
) -> Path:
    """Write the checkpoint's ``README.md`` and ``.eval_results/`` from the market, the diagnostics and the evaluation of a run.

    A card that somebody has edited keeps its text; its generated parts are renewed. See `merge_cards`.

    Args:
        run: run folder with a market, SIDs and a checkpoint. Without an evaluation the card says that nothing was measured.
        name: title of a new card.
        repository: Hub id that the snippets load; default: the path of the checkpoint, from the folder around the run if it is absolute.
        revision: tag or commit that the snippets load.
        license: identifier of the licence of the weights, as the Hub knows it.

    Returns:
        Path of the card.

    Raises:
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: the diagnostics or the report have another schema.
    """
    path = run.checkpoint / CARD_NAME
    new = card_text(run, name, repository, revision, license)
    if path.is_file() and not is_unedited(own := path.read_text(encoding="utf-8")):
        merged = merge_cards(own, new)
        for kept in merged.kept:
            logger.warning("%s: the generated part %r was edited, so that it is left as it is and may be old", path, kept)
        text = merged.text
    else:
        text = signed(new)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if (run.evaluation / METRICS_NAME).is_file():
        write_eval_results(run)
    return path


def card_text(
    run: RunFolder, name: str, repository: str | None = None, revision: str | None = None, license: str = LICENSE
) -> str:
    """The text of a new card, without a signature; the arguments and errors are those of `write_card`."""
    market = Market.load(run.require("market", "onesearch data"))
    codes = diagnostics(run)
    checkpoint = run.require("checkpoint", "onesearch train")
    report = load_report(run.evaluation) if (run.evaluation / METRICS_NAME).is_file() else Report()
    card = ModelCard.from_template(
        card_data(run, market, report, name, license),
        template_path=str(TEMPLATE),
        name=name,
        training=training_text(run, market),
        **card_values(run, market, codes, report, repository or _local_name(checkpoint), revision),
    )
    return seal_blocks(str(card))


def refresh_card(run: RunFolder) -> None:
    """Renew the generated parts of a checkpoint's card after an evaluation. Title, Hub id and all that people wrote stay.

    Without a card nothing is done.
    """
    path = run.checkpoint / CARD_NAME
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    title, repository = re.search(r"^# (.+)$", text, re.MULTILINE), re.search(r'Searcher\.from_pretrained\("([^"]+)"', text)
    own_license = ModelCard(text.rpartition(SIGNATURE)[0] or text).data.to_dict().get("license")
    name = title[1] if title is not None else run.root.resolve().name
    write_card(run, name, None if repository is None else repository[1], license=own_license or LICENSE)


def _local_name(checkpoint: Path) -> str:
    """Path of a checkpoint as it was given, or from the folder around its run: a card names no folder of the machine that wrote it."""
    if not checkpoint.is_absolute():
        return checkpoint.as_posix()
    return checkpoint.relative_to(checkpoint.parent.parent).as_posix()


__all__ = ["CARD_NAME", "card_text", "refresh_card", "write_card"]
