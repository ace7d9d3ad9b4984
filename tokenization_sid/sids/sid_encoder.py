"""Texts to codes with the frozen parts of a run: its encoder, its keywords and its codebooks. Search, inspection and append use it.

`SidEncoder.load` reads it from a run. `SidEncoder.save_pretrained` writes it to a folder that works without the run:
``codebooks.safetensors``, ``keywords.parquet``, ``encoder/`` (a sentence-transformers folder) and ``sid_encoder.json`` with ``format``, the
``fingerprint`` of the codebooks and the SHA-256 of every other file. Weights are safetensors, and reading the folder runs no code of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.files import RunFolder, atomic_folder, read_json, write_json

from ..embedding.embeddings import encoder_name
from ..embedding.pretrained import load_encoder_named
from ..embedding.text_encoder import embed_texts
from ..keywords.keyword_files import KEYWORDS_NAME, load_keywords, save_keywords
from ..keywords.keywords import CoreKeywords
from ..quantizers.base import Quantizer
from ..quantizers.loading import load_quantizer
from .sid_folder import check_parts, check_source

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SID_ENCODER_NAME = "sid_encoder.json"
FORMAT = "onesearch-sid-encoder/1"
ENCODER_FOLDER = "encoder"

PARTS = ("*.json", "*.safetensors", "*.parquet", ENCODER_FOLDER)
"""Patterns of what the folder of a SID encoder holds. Whatever else lies in it stays when it is written anew."""

HARMLESS = (".safetensors", ".parquet", ".json", ".txt", ".model", ".md")
"""Endings of files that run no code when they are read; others are not saved."""


class Embedded(NamedTuple):
    """Vectors of texts.

    Attributes:
        vectors: (texts, dimension) float32 unit vectors with keywords fused in.
        known: (texts,) bool: whether the encoder knows a word of the text; the vector is zero if not.
    """

    vectors: np.ndarray
    known: np.ndarray


class Encoded(NamedTuple):
    """Codes of texts.

    Attributes:
        codes: (texts, levels) int32.
        known: (texts,) bool: whether the encoder knows a word of the text; the codes mean nothing if not.
        vectors: (texts, dimension) float16: the vectors as a prompt holds them, zeros where unknown.
    """

    codes: np.ndarray
    known: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class SidEncoder:
    """Frozen encoder, keywords and codebooks.

    Args:
        name: text encoder: a sentence-transformers folder or a name, as `load_encoder_named` takes it.
        core: keywords; empty if the SIDs were built without keywords.
        quantizer: codebooks of any kind.

    Example:
        >>> encoder = SidEncoder.load(RunFolder("runs/demo"))  # doctest: +SKIP
        >>> encoder.save_pretrained("query_encoder")  # doctest: +SKIP
        >>> codes, known, _ = SidEncoder.from_pretrained("query_encoder").encode(["red shoe"])  # doctest: +SKIP
    """

    name: str
    core: CoreKeywords
    quantizer: Quantizer[Any]

    @classmethod
    def load(cls, run: RunFolder) -> SidEncoder:
        """Read the parts that `build_sids` wrote for a run; the text encoder is loaded at first use.

        Raises:
            FileNotFoundError: the run has no SIDs, or a part is missing.
            ValueError: a part is damaged, the parts of ``sids/`` belong to different codebooks, or the encoder has changed since they were
                built.
        """
        folder = run.require("sids", "onesearch sids build")
        check_parts(run)
        check_source(run)
        quantizer = load_quantizer(folder)
        return cls(encoder_name(run), load_keywords(run.sids / KEYWORDS_NAME, quantizer.fingerprint), quantizer)

    @classmethod
    def from_pretrained(cls, name: str | Path, subfolder: str = "", revision: str | None = None) -> SidEncoder:
        """Read a folder that `save_pretrained` wrote. All files are checked now; the text encoder is loaded at first use.

        Args:
            name: folder, or id of a Hub repository.
            subfolder: folder within it, for instance ``query_encoder`` of a checkpoint.
            revision: branch, tag or commit of the Hub repository.

        Raises:
            FileNotFoundError: there is no such folder or repository, it holds no SID encoder, or a part is missing.
            ValueError: a part is damaged, or the parts were not saved together.
        """
        folder = _local_folder(str(name), subfolder, revision)
        _check_files(folder)
        quantizer = load_quantizer(folder)
        core = load_keywords(folder / KEYWORDS_NAME, quantizer.fingerprint)
        return cls(str(folder / ENCODER_FOLDER), core, quantizer)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write everything that encoding needs into `folder`, which appears whole or not at all.

        A published text encoder is copied too, so that later changes of it do not reach the folder.

        Args:
            folder: new folder, or one with an older SID encoder, which is replaced; files of others in it stay.

        Returns:
            `folder`.

        Raises:
            FileExistsError: `folder` holds something else than a SID encoder.
            ValueError: the text encoder has files that are not safetensors, JSON or text.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / SID_ENCODER_NAME).is_file() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds something else than a SID encoder; choose a folder of its own")
        encoder = self.encoder  # read before anything is written: it may lie in the folder that is replaced
        with atomic_folder(folder, replaces=[SID_ENCODER_NAME], parts=PARTS) as temporary:
            self.quantizer.save_pretrained(temporary)
            save_keywords(temporary / KEYWORDS_NAME, self.core, self.quantizer.fingerprint)
            encoder.save(str(temporary / ENCODER_FOLDER), create_model_card=False)
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            if other := [path.name for path in files if path.suffix not in HARMLESS]:
                raise ValueError(f"text encoder {self.name} has {', '.join(other)}; save it with safetensors first")
            sums = {path.relative_to(temporary).as_posix(): _sha256(path) for path in files}
            write_json(
                temporary / SID_ENCODER_NAME, {"format": FORMAT, "fingerprint": self.quantizer.fingerprint, "files": sums}
            )
        return folder

    @cached_property
    def encoder(self) -> SentenceTransformer:
        """Text encoder, loaded at first use, on the processor."""
        return load_encoder_named(self.name, device="cpu")

    def embed(
        self, texts: Sequence[str], inputs: Sequence[str] | None = None, further: Sequence[Sequence[str]] | None = None
    ) -> Embedded:
        """Embed texts and fuse their keywords in.

        Args:
            texts: texts in which keywords are found.
            inputs: what the encoder reads of each, if that is more: texts of items with their facts.
            further: values of each text's item that are keywords as well, as `CoreKeywords.further_texts` gives them.
        """
        fused = self.core.fuse(texts, embed_texts(self.encoder, texts if inputs is None else inputs), further)
        return Embedded(fused, known_rows(fused))

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts with their keywords fused in, as a prompt holds them: float16 (texts, dimension), zeros where unknown."""
        if not len(texts):
            return np.zeros((0, self.quantizer.dimension), dtype=np.float16)
        return self.embed(texts).vectors.astype(np.float16)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode queries or other texts, also none; items get their codes from `build_sids` or `append_items`."""
        if not len(texts):
            codes = np.zeros((0, len(self.quantizer.config.codebook_sizes)), dtype=np.int32)
            return Encoded(codes, np.zeros(0, dtype=bool), self.vectors(texts))
        vectors, known = self.embed(texts)
        return Encoded(self.quantizer.for_queries.encode(vectors), known, vectors.astype(np.float16))


def _local_folder(name: str, subfolder: str, revision: str | None) -> Path:
    """Folder with the files of a SID encoder; they are downloaded if `name` is not a folder."""
    if Path(name).is_dir():
        return Path(name) / subfolder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [f"{subfolder}/*" if subfolder else "*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns)) / subfolder
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(f"{name!r} is no folder, and not a Hub repository that can be read now: {error}") from error


def _check_files(folder: Path) -> None:
    """Raise unless every file is there and is the one that was saved with the others."""
    path = folder / SID_ENCODER_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no SID encoder (no {SID_ENCODER_NAME}); write one with SidEncoder.save_pretrained"
        )
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        found = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
        raise ValueError(f"{path} has format {found!r}, expected {FORMAT!r}; save the SID encoder again")
    for name, expected in stored["files"].items():
        part = folder / name
        if not part.is_file():
            raise FileNotFoundError(f"{part} does not exist; copy the whole folder again")
        if _sha256(part) != expected:
            raise ValueError(
                f"{part} is damaged or was not saved with the other parts of {folder}; copy the whole folder again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_rows(vectors: np.ndarray) -> np.ndarray:
    """(rows,) bool: whether each of `vectors` (rows, dimension) is not zero, that is the encoder knows a word of its text."""
    return np.asarray(vectors.any(axis=1))


def code_centroids(vectors: np.ndarray, first: np.ndarray, size: int) -> np.ndarray:
    """Mean of the vectors of each level-0 code.

    They are means of the vectors themselves and not of residuals, so that they lie where the vectors do for every quantizer.

    Args:
        vectors: (n, dimension).
        first: (n,) level-0 code of each vector.
        size: codebook size of level 0.

    Returns:
        (size, dimension) float32, NaN for codes without vectors.
    """
    from scipy.sparse import csr_matrix

    members = csr_matrix((np.ones(len(first), dtype=np.float32), (first, np.arange(len(first)))), shape=(size, len(first)))
    counts = np.bincount(first, minlength=size).astype(np.float32)
    return np.where(counts[:, None] > 0, members @ vectors / np.maximum(counts, 1)[:, None], np.nan).astype(np.float32)


def centroid_distances(vectors: np.ndarray, first: np.ndarray, centroids: np.ndarray, chunk: int = 65_536) -> np.ndarray:
    """Distance of each vector to the centroid of its level-0 code.

    Args:
        vectors: (n, dimension).
        first: (n,) level-0 code of each vector.
        centroids: (codes, dimension), NaN for codes without vectors.
        chunk: number of vectors that are computed at a time.

    Returns:
        (n,) float32, infinite if the code has no centroid.
    """
    distances = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), chunk):
        part = slice(start, start + chunk)
        distances[part] = np.linalg.norm(vectors[part] - centroids[first[part]], axis=1)
    return np.nan_to_num(distances, nan=np.inf, posinf=np.inf)


__all__ = ["SID_ENCODER_NAME", "Embedded", "Encoded", "SidEncoder", "centroid_distances", "code_centroids", "known_rows"]
