"""Pushing a model to the Hub in one commit: weights, code, item index and card, and what lies beside unchanged weights.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, HfApi

from .card_onesearch import CARD_NAME, is_blank, merge_cards, plain_card
from .catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME
from .tensor_files_onesearch import read_metadata

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    _Base = PreTrainedModel
else:
    _Base = object

logger = logging.getLogger(__name__)

COMPANIONS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
    *("tokenization_sid.py", "prompts.py", "ragged.py", "user_ids.py", "templates.py", "bpe.py"),
    *("query_encoder", "default_histories.parquet", "items.parquet", "text_index.safetensors", "reward", "dense"),
    *("diagnostics.png", "diagnostics.svg", ".eval_results", "evaluation"),
)
"""Files and folders of a checkpoint that a model does not write itself, and that belong to its weights."""


class PublishMixin(_Base):
    """Stands before a model's class among the parents: `push_to_hub` publishes a whole checkpoint with a true card."""

    _own_card: str | None = None

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers; with `push_to_hub=True` a card in the folder is kept, which transformers would replace by a blank one."""
        card = Path(save_directory, CARD_NAME)
        self._own_card = card.read_text(encoding="utf-8") if kwargs.get("push_to_hub") and card.is_file() else None
        super().save_pretrained(save_directory, *args, **kwargs)

    def _upload_modified_files(
        self,
        working_dir: str | os.PathLike,
        repo_id: str,
        files_timestamps: dict[str, float],
        commit_message: str | None = None,
        token: bool | str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
    ) -> Any:
        """As in transformers, which calls it at the end of `push_to_hub` and `save_pretrained(push_to_hub=True)`; in one commit.

        Weights that are those of the folder that the model was loaded from are pushed with what lies beside them there: tokenizer, reward
        model, text index, card and evaluation. Weights that have changed are pushed with a card that claims no results.
        """
        folder = Path(working_dir)
        origin = Path(self.name_or_path) if self.name_or_path else None
        unchanged = origin is not None and origin.is_dir() and _same_weights(origin, folder)
        if origin is not None and unchanged and origin.resolve() != folder.resolve():
            _copy_companions(origin, folder)
        if not unchanged:
            logger.warning(
                "%s is pushed without tokenizer, reward model and results: its weights are not those of a folder", repo_id
            )
        self._write_card(folder, origin if unchanged else None)
        before = {name for name in files_timestamps if name != CARD_NAME}
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path for path in files if not _is_old(path.relative_to(folder), path, before, files_timestamps)]
        api = HfApi(token=token)
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in names]
        try:
            return api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
                create_pr=create_pr,
                revision=revision,
            )
        finally:
            if self._own_card is not None:
                (folder / CARD_NAME).write_text(self._own_card, encoding="utf-8")

    def _write_card(self, folder: Path, origin: Path | None) -> None:
        """Write the card that is pushed: that of the Hub, which transformers has put into `folder`, with new generated parts.

        Args:
            folder: files that are pushed.
            origin: folder with the same weights, whose card tells of them; None if the weights have changed.
        """
        card = folder / CARD_NAME
        found = card.read_text(encoding="utf-8") if card.is_file() else ""
        beside = origin / CARD_NAME if origin is not None else None
        new = plain_card(self)
        if self._own_card is not None:
            new = self._own_card
        elif beside is not None and beside.is_file() and beside.resolve() != card.resolve():
            new = beside.read_text(encoding="utf-8")
        if not found or is_blank(found):
            card.write_text(new, encoding="utf-8")
            return
        merged = merge_cards(found, new)
        for name in merged.kept:
            logger.warning("the block %r of the card on the Hub was edited and stays as it is", name)
        card.write_text(merged.text, encoding="utf-8")


def _is_old(name: Path, path: Path, before: set[str], times: dict[str, float]) -> bool:
    """Whether a file lay in the folder before `save_pretrained` and was not written since, or is a temporary one."""
    top = name.parts[0]
    if top.startswith(".") and top != ".eval_results":
        return True
    return top in before and os.path.getmtime(path) <= times[top]


def _copy_companions(origin: Path, folder: Path) -> None:
    """Copy what belongs to the weights beside them."""
    for name in COMPANIONS:
        source, target = origin / name, folder / name
        if target.exists() or not source.exists():
            continue
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)


def _same_weights(first: Path, second: Path) -> bool:
    """Whether two folders hold the same weights, byte by byte, and the same item index."""
    names, others = ({path.name for path in folder.glob("model*.safetensors")} for folder in (first, second))
    if not names or names != others or _index_of(first) != _index_of(second):
        return False
    return first.resolve() == second.resolve() or all(_digest(first / name) == _digest(second / name) for name in names)


def _index_of(folder: Path) -> tuple[str, bool]:
    """Fingerprint of the item index in a folder, and whether there are updates; safetensors orders the metadata of a file at random."""
    path = folder / SID_INDEX_NAME
    build = read_metadata(path).get("build", "") if path.is_file() else ""
    return build, (folder / SID_UPDATES_NAME).is_file()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["COMPANIONS", "PublishMixin"]
