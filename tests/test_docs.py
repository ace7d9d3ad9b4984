"""What the documentation shows is run: the examples in docstrings, and the README's snippets in the order of the page."""

from __future__ import annotations

import argparse
import contextlib
import doctest
import importlib
import io
import re
import shlex
import shutil
from unittest import mock

import pytest
from draw_architecture import ROOT, SOURCES, name_of

from onesearch.cli import build_parser
from onesearch.tokenization_sid.quantizers.configs import QUANTIZER_CONFIGS
from onesearch.tokenization_sid.quantizers.loading import QUANTIZERS
from onesearch.tokenization_sid.templates import TEMPLATES
from onesearch.trainers.tasks import TASKS

NOT_RUN = "<!-- not run -->"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def snippets(page: str) -> list[tuple[int, str]]:
    """Line number and code of the page's python blocks, without those that follow `NOT_RUN`."""
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if not page[: match.start()].rstrip().endswith(NOT_RUN):
            found.append((page[: match.start()].count("\n") + 2, match[1]))
    return found


def test_examples_in_docstrings_run(tmp_path, monkeypatch):
    """Each in a folder of its own."""
    failed, empty = [], []
    for path in SOURCES:
        if ">>>" not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(name_of(path))
        folder = tmp_path / module.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        examples = 0
        for example in doctest.DocTestFinder().find(module, extraglobs={"tmp_path": folder}):
            report = io.StringIO()
            with contextlib.redirect_stdout(report):
                result = doctest.DocTestRunner(optionflags=FLAGS).run(example)
            examples += len(example.examples)
            failed += [report.getvalue()] if result.failed else []
        empty += [] if examples else [module.__name__]
    assert not failed, "\n".join(failed)
    assert not empty, "examples that doctest does not find"


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page.read_text(encoding="utf-8"))], ids=lambda page: page.name
)
def test_the_page_s_snippets_run(page, shared_run, tmp_path, monkeypatch):
    """In one namespace, in a folder whose `runs/demo` is a finished run."""
    shutil.copytree(shared_run.root, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with contextlib.ExitStack() as tables:  # a page may add to them
        for table in (QUANTIZERS, QUANTIZER_CONFIGS, TASKS, TEMPLATES):
            tables.enter_context(mock.patch.dict(table))
        for line, code in snippets(page.read_text(encoding="utf-8")):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * (line - 1) + code, page.name, "exec", dont_inherit=True), namespace)


def test_the_card_s_snippet_runs(shared_run, monkeypatch):
    """A checkpoint's own page names the checkpoint from the folder around the run. Its second snippet, for transformers alone, runs in
    a process of its own in `tests/model_cards/test_publishing.py`."""
    monkeypatch.chdir(shared_run.root.parent)
    found = snippets((shared_run.checkpoint / "README.md").read_text(encoding="utf-8"))
    assert len(found) == 2
    line, code = found[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, "card", "exec"), {})
    assert len(printed.getvalue().splitlines()) == 10


def test_commands_on_the_pages_are_understood():
    """Every `onesearch …` line of a page passes the parser; a bare name in the text, such as `onesearch train`, is a command."""
    parser = build_parser()
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
        for line in lines:
            if line.startswith("onesearch "):
                assert is_understood(parser, line), f"{page.name}: the parser refuses `{line}`"
        for line in re.findall(r"`(onesearch [^`]*)`", text):
            assert is_understood(parser, line) or is_understood(parser, f"{line} --help"), f"{page.name}: no command `{line}`"


def is_understood(parser: argparse.ArgumentParser, line: str) -> bool:
    words = shlex.split(line)[1:]
    if {"…", "..."} & set(words) or any(word.isupper() or "|" in word for word in words):  # a placeholder such as RUN
        return True
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            parser.parse_args(words)
        except SystemExit as end:
            return end.code == 0
    return True


def test_blocks_marked_as_not_run_are_skipped():
    page = f"a\n\n```python\n1\n```\n\n{NOT_RUN}\n```python\n2\n```\n```\n3\n```\n"
    assert snippets(page) == [(4, "1\n")]
