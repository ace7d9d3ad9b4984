"""Publishing a run on the Hub in one commit, and fetching it back.

A repository holds the checkpoint, the codebooks with their encoder (``query_encoder/``), the reward model, the text index, the card with
its plots, ``.eval_results/`` and the evaluation. A tag named after the contents pins them; the snippets of the card load that tag.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from onesearch.evaluation.reports import METRICS_NAME
from onesearch.files import RunFolder, atomic_folder
from onesearch.modeling_onesearch.card_onesearch import CARD_NAME, MergedCard, is_blank, merge_cards, prose_of
from onesearch.serving.loading import QUERY_ENCODER_NAME
from onesearch.signed_text import SIGNATURE, is_unedited, signed
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

from .card import card_text
from .eval_results import FOLDER_NAME as RESULTS_NAME
from .eval_results import write_eval_results
from .hub_errors import explained
from .latency import LATENCY_NAME, latency_is_current, measure_latency
from .metadata import LICENSE

logger = logging.getLogger(__name__)

LARGEST_FILE = 50_000_000_000
"""Bytes of the largest single file that the Hub takes."""

CARD_CHOICES = ("hub", "local")
"""Cards whose text wins where both that on the Hub and that of the run were edited."""

OWNED = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *(
        "sid_index.safetensors",
        "sid_index_updates.safetensors",
        "text_index.safetensors",
        "default_histories.parquet",
        "items.parquet",
    ),
    *("*_onesearch.py", "*_unisearch.py", "reward/*", "dense/*", "query_encoder/*"),
    *("evaluation/metrics.json", "evaluation/latency.json"),
    ".eval_results/onesearch-*.yaml",
)
"""Patterns of files that a push removes from the repository if it does not bring them itself: they would not fit the new ones."""


@dataclass(frozen=True)
class PushedFile:
    """One file of a push.

    Args:
        path: path in the repository.
        content: file on the disk, or the content itself.
    """

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def digest(self) -> str:
        """SHA-256 of the content."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Published:
    """A finished push.

    Args:
        url: address of the commit.
        commit: its id.
        tag: tag that pins it.
        files: what the repository holds of the run.
        kept: generated parts of the card that somebody has edited, so that they are old.
    """

    url: str
    commit: str
    tag: str
    files: list[PushedFile]
    kept: list[str]


def push_run(
    run: RunFolder,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    card: str | None = None,
    license: str = LICENSE,
    api: HfApi | None = None,
) -> Published:
    """Publish a run: everything in one commit, which appears whole or not at all, then its tag.

    A card that somebody has edited, on the Hub or in the checkpoint, keeps its text and gets new generated parts. Files of others in the
    repository stay. A push that was interrupted is repeated by the same call; files that the Hub has are not sent again.

    Args:
        run: run folder with a market, SIDs, a checkpoint and an evaluation.
        repository: ``name`` or ``organisation/name``; it is made if it does not exist.
        private: make a new repository private. None leaves it to the account; an existing repository stays as it is.
        revision: branch that is pushed to; it is made if it does not exist. Default: ``main``.
        card: ``hub`` or ``local``: the card whose text wins where both were edited. None refuses such a push.
        license: identifier of the licence of the weights in a new card.
        api: client of the Hub; default: one with the saved token.

    Raises:
        FileNotFoundError: a part of the run is missing.
        ValueError: a file is larger than the Hub takes, both cards were edited and `card` is None, or the Hub refuses a name.
        PermissionError: the Hub knows no token, or its owner may not write there.
        ConnectionError: the Hub cannot be reached or failed; nothing was published.
    """
    if card is not None and card not in CARD_CHOICES:
        raise ValueError(f"card={card!r} is unknown; allowed are {' and '.join(CARD_CHOICES)}")
    api = api or HfApi()
    with _prepared(run) as files, explained(repository), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="It seems that you are about to commit a data file"
        )  # parquet in a model's folder
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        if revision is not None and not _has_branch(api, repository, revision):
            api.create_branch(repository, branch=revision)
        tag = content_tag(files)
        head = api.repo_info(repository, revision=revision).sha
        there = set(api.list_repo_files(repository, revision=head))
        on_hub = _card_on_hub(api, repository, head) if CARD_NAME in there else None
        new = card_text(run, _title(run), repository, tag, license)
        merged = _merged(run, new, on_hub, card)
        pushed = [*files, PushedFile(CARD_NAME, merged.text.encode())]
        old = [name for name in sorted(there - {file.path for file in pushed}) if _is_owned(name)]
        commit = api.create_commit(
            repository,
            [*map(CommitOperationDelete, old), *(CommitOperationAdd(file.path, file.content) for file in pushed)],
            commit_message=f"Publish {_title(run)} ({tag})",
            revision=revision,
            parent_commit=head,
        )
        api.create_tag(repository, tag=tag, revision=commit.oid, exist_ok=True)
    return Published(commit.commit_url, commit.oid, tag, pushed, merged.kept)


def plan_push(run: RunFolder) -> list[tuple[str, int]]:
    """Path and size in bytes of every file that `push_run` would publish. The Hub is not asked; the errors are those of `push_run`."""
    with _prepared(run) as files:
        text = card_text(run, _title(run), "organisation/name", content_tag(files))
        listed = [(file.path, file.size) for file in files]
    return sorted([*listed, (CARD_NAME, len(signed(text).encode()))])


def pull(repository: str, folder: str | Path, revision: str | None = None, api: HfApi | None = None) -> Path:
    """Fetch a published checkpoint into a folder, which appears whole or not at all.

    The files come by way of the Hub's cache, so that an interrupted call continues and a second one downloads nothing.

    Args:
        repository: ``organisation/name``.
        folder: new or empty folder.
        revision: branch, tag or commit; default: ``main``.
        api: client of the Hub; default: one with the saved token.

    Returns:
        The folder. It loads with `Searcher.from_pretrained`, and `onesearch search` takes it.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: the repository holds no checkpoint of this package.
        PermissionError: the repository is private or gated.
        FileNotFoundError: there is no such repository or revision.
        ConnectionError: the Hub cannot be reached or failed.
    """
    folder, api = Path(folder), api or HfApi()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty; nothing was changed, choose a new folder")
    with explained(repository):
        snapshot = Path(api.snapshot_download(repository, revision=revision))
    missing = [name for name in ("config.json", "sid_index.safetensors") if not (snapshot / name).is_file()]
    if missing:
        raise ValueError(f"{repository} holds no checkpoint of onesearch (no {missing[0]}); `onesearch push` publishes one")
    with atomic_folder(folder, replaces=["config.json"]) as temporary:
        shutil.copytree(snapshot, temporary, dirs_exist_ok=True)  # follows the links of the cache
    return folder


def content_tag(files: list[PushedFile]) -> str:
    """Name of the tag that pins files: the same checkpoint has the same name. The codebooks are known by their fingerprint in it."""
    left_out = ("evaluation/", f"{QUERY_ENCODER_NAME}/")
    sums = {file.path: file.digest() for file in files if not file.path.startswith(left_out)}
    return f"content-{hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:12]}"


@contextmanager
def _prepared(run: RunFolder) -> Iterator[list[PushedFile]]:
    """Yield the files of a push but the card. The times are measured if they are not current.

    Raises:
        FileNotFoundError: a part of the run is missing.
        ValueError: a file is larger than the Hub takes.
    """
    checkpoint = run.require("checkpoint", "onesearch train")
    if not (run.evaluation / METRICS_NAME).is_file():
        raise FileNotFoundError(f"{run.evaluation / METRICS_NAME} does not exist; make it with `onesearch evaluate`")
    write_eval_results(run)
    if not latency_is_current(run):
        measure_latency(run)
    with tempfile.TemporaryDirectory() as temporary:
        files = {path.relative_to(checkpoint).as_posix(): path for path in _files(checkpoint)}
        files.pop(CARD_NAME, None)
        if not (checkpoint / QUERY_ENCODER_NAME).is_dir():
            encoder = SidEncoder.load(run).save_pretrained(Path(temporary) / QUERY_ENCODER_NAME)
            files |= {f"{QUERY_ENCODER_NAME}/{path.relative_to(encoder).as_posix()}": path for path in _files(encoder)}
        for name in (METRICS_NAME, LATENCY_NAME):
            files[f"evaluation/{name}"] = run.evaluation / name
        found = [PushedFile(path, content) for path, content in sorted(files.items())]
        large = [file for file in found if file.size > LARGEST_FILE]
        if large:
            raise ValueError(
                f"{large[0].path} has {large[0].size:,} bytes; the Hub takes files up to {LARGEST_FILE:,}: split the catalogue into "
                "several checkpoints, or save the weights with a smaller max_shard_size"
            )
        yield found


def _files(folder: Path) -> list[Path]:
    """Files below a folder, without temporary and lock files."""

    def is_public(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        hidden = [part for part in parts if part.startswith(".") and part != RESULTS_NAME]
        return path.is_file() and not hidden and path.suffix != ".lock" and "__pycache__" not in parts

    return [path for path in sorted(folder.rglob("*")) if is_public(path)]


def _title(run: RunFolder) -> str:
    """Title of the card in the checkpoint; without one the name of the run's folder."""
    path = run.checkpoint / CARD_NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line[2:].strip() for line in lines if line.startswith("# ")), run.root.resolve().name)


def _merged(run: RunFolder, new: str, on_hub: str | None, choice: str | None) -> MergedCard:
    """The card that is pushed: new generated parts in the text of whoever has edited the card.

    Raises:
        ValueError: both the card on the Hub and that of the run were edited, differently, and `choice` is None.
    """
    path = run.checkpoint / CARD_NAME
    local = path.read_text(encoding="utf-8") if path.is_file() else None
    edited = {
        "hub": on_hub if on_hub is not None and not is_unedited(on_hub) and not is_blank(on_hub) else None,
        "local": local if local is not None and not is_unedited(local) else None,
    }
    texts = {name: _unsigned(text) for name, text in edited.items() if text is not None}
    if len(texts) == 2 and choice is None and prose_of(texts["hub"]) != prose_of(texts["local"]):
        raise ValueError(
            f"both the card on the Hub and {path} were edited, and differ; --card hub keeps the text of the one on the Hub, --card local "
            "that of the run. Nothing was published"
        )
    own = texts.get(choice or "hub") or next(iter(texts.values()), None)
    if own is None:
        return MergedCard(signed(new), [])
    merged = merge_cards(own, new)
    for name in merged.kept:
        logger.warning("the generated part %r of the card was edited, so that it is left as it is and may be old", name)
    return MergedCard(signed(merged.text), merged.kept)


def _unsigned(text: str) -> str:
    """A card without the fingerprint of its last line."""
    before, mark, _ = text.rpartition(SIGNATURE)
    return before if mark else text


def _card_on_hub(api: HfApi, repository: str, revision: str | None) -> str:
    return Path(api.hf_hub_download(repository, CARD_NAME, revision=revision)).read_text(encoding="utf-8")


def _has_branch(api: HfApi, repository: str, revision: str) -> bool:
    return revision in {branch.name for branch in api.list_repo_refs(repository).branches}


def _is_owned(path: str) -> bool:
    """Whether a file of a repository is one that pushes write."""
    patterns = [pattern for pattern in OWNED if ("/" in pattern) == ("/" in path)]
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


__all__ = ["Published", "PushedFile", "content_tag", "plan_push", "pull", "push_run"]
