"""What the benchmarks share: one thread, and the indexes that several of them search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from catalogues import clustered, index_of
from models import bart, prompts


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Compile the kernel, which takes seconds where numba has not kept it, before anything is timed."""
    model = bart("small")
    model.set_sid_index(index_of(clustered(1000)))
    model.search_sids(**prompts(), num_beams=10)


@pytest.fixture(scope="session")
def saved_index(tmp_path_factory):
    """`saved_index(items)` → file of a clustered catalogue, built once per session. Categories: about 1 % of the items each."""
    folder = tmp_path_factory.mktemp("indexes")

    def path_of(items: int) -> Path:
        path = folder / str(items) / "sid_index.safetensors"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            index_of(clustered(items)).save(path)
        return path

    return path_of
