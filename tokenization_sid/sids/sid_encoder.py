"""Texts to codes with what a run has frozen: its encoder, its keywords and its codebooks. Search, inspection and append share it.

It comes from a run, or from a folder of its own that nothing of the run is needed for (`SidEncoder.save_pretrained`):
``codebooks.safetensors``, ``keywords.parquet``, ``encoder/`` (a sentence-transformers folder) and ``sid_encoder.json`` with ``format``,
the ``digest`` of the codebooks and the SHA-256 of every other file. Weights are safetensors; no file of it runs code when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.files import RunFolder, atomic_folder, read_json, write_json

from ..embedding.embeddings import encoder_name
from ..embedding.text_encoder import embed_texts
from ..keywords.keyword_files import KEYWORDS_NAME, load_keywords, save_keywords
from ..keywords.keywords import CoreKeywords
from ..quantizers.base import Quantizer
from ..quantizers.loading import load_quantizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SID_ENCODER_NAME = "sid_encoder.json"
FORMAT = "onesearch-sid-encoder/1"
ENCODER_FOLDER = "encoder"

HARMLESS = (".safetensors", ".parquet", ".json", ".txt", ".model", ".md")
"""Endings of files that run no code when they are read; no others are saved."""


@dataclass(frozen=True, eq=False)
class SidEncoder:
    """Frozen encoder, keywords and codebooks.

    Args:
        name: of the text encoder, a sentence-transformers folder or a published model.
        core: keywords; none if the SIDs were built without.
        quantizer: codebooks of any kind.

    >>> encoder = SidEncoder.load(RunFolder("runs/demo"))  # doctest: +SKIP
    >>> encoder.save_pretrained("query_encoder")  # doctest: +SKIP
    >>> codes, known = SidEncoder.from_pretrained("query_encoder").encode(["red shoe"])  # doctest: +SKIP
    """

    name: str
    core: CoreKeywords
    quantizer: Quantizer

    @classmethod
    def load(cls, run: RunFolder) -> SidEncoder:
        """Read what `build_sids` left; the text encoder itself is read at first use."""
        quantizer = load_quantizer(run.require("sids", "onesearch sids build"))
        return cls(encoder_name(run), load_keywords(run.sids / KEYWORDS_NAME, quantizer.fingerprint), quantizer)

    @classmethod
    def from_pretrained(cls, name: str | Path, subfolder: str = "", revision: str | None = None) -> SidEncoder:
        """Read what `save_pretrained` wrote; the text encoder itself is read at first use, its files are checked now.

        Args:
            name: folder, or id of a Hub repository.
            subfolder: of it, for instance ``query_encoder`` of a checkpoint.
            revision: branch, tag or commit of the Hub repository.

        Raises:
            FileNotFoundError: there is no such folder or repository, or no SID encoder in it, or a part is missing.
            ValueError: a part is damaged, or the parts were not saved together.
        """
        folder = _local_folder(str(name), subfolder, revision)
        _check_files(folder)
        quantizer = load_quantizer(folder)
        core = load_keywords(folder / KEYWORDS_NAME, quantizer.fingerprint)
        return cls(str(folder / ENCODER_FOLDER), core, quantizer)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write everything that encoding takes into `folder`, which appears whole or not at all; an older one is replaced.

        A text encoder that is known by its published name is saved too, so that the folder stays what it is.

        Raises:
            FileExistsError: `folder` holds something else than a SID encoder.
            ValueError: the text encoder has files that are no safetensors, JSON or text.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / SID_ENCODER_NAME).is_file() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} holds something else than a SID encoder; choose a folder of its own")
        encoder = self.encoder  # read before anything is written: it may lie in the folder that is replaced
        with atomic_folder(folder) as temporary:
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
        """The text encoder."""
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(self.name, device="cpu")

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors with keywords in, (texts, dimension) float32, and whether the encoder knows a word of each text, (texts,) bool."""
        plain = embed_texts(self.encoder, texts)
        fused = self.core.fuse(texts, plain)
        return fused, known_rows(fused)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Codes (texts, levels) int32, and whether the encoder knows a word of each text, (texts,) bool."""
        if not len(texts):
            return np.zeros((0, len(self.quantizer.config.codebook_sizes)), dtype=np.int32), np.zeros(0, dtype=bool)
        vectors, known = self.embed(texts)
        return self.quantizer.encode(vectors), known


def _local_folder(name: str, subfolder: str, revision: str | None) -> Path:
    """Where the files of a SID encoder lie, downloaded if `name` is no folder."""
    if Path(name).is_dir():
        return Path(name) / subfolder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [f"{subfolder}/*" if subfolder else "*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns)) / subfolder
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(f"{name!r} is no folder, and no Hub repository that can be read now: {error}") from error


def _check_files(folder: Path) -> None:
    """Every file is there and is the one that was saved with the others."""
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
    """(rows,) bool: which vectors are not zero."""
    return vectors.any(axis=1)


def code_centroids(vectors: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
    """Mean of the vectors (n, dimension) of each level-0 code: (width, dimension) float32, NaN for codes that none has.

    Those of the items themselves, so that they lie where the vectors do whatever a quantizer does to them first.
    """
    from scipy.sparse import csr_matrix

    members = csr_matrix((np.ones(len(first), dtype=np.float32), (first, np.arange(len(first)))), shape=(width, len(first)))
    counts = np.bincount(first, minlength=width).astype(np.float32)
    return np.where(counts[:, None] > 0, members @ vectors / np.maximum(counts, 1)[:, None], np.nan).astype(np.float32)


def centroid_distances(vectors: np.ndarray, first: np.ndarray, centroids: np.ndarray, chunk: int = 65_536) -> np.ndarray:
    """(n,) distance of each vector (n, dimension) to the centroid of its level-0 code `first` (n,); infinite where it has none."""
    distances = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), chunk):
        part = slice(start, start + chunk)
        distances[part] = np.linalg.norm(vectors[part] - centroids[first[part]], axis=1)
    return np.nan_to_num(distances, nan=np.inf, posinf=np.inf)


__all__ = ["SID_ENCODER_NAME", "SidEncoder", "centroid_distances", "code_centroids", "known_rows"]
