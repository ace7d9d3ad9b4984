"""What the documentation shows is run: the examples in docstrings, and the README's snippets in the order of the page."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import shutil

import pytest
from draw_architecture import ROOT, SOURCES, label, name_of

NOT_RUN = "<!-- not run -->"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def snippets(page: str) -> list[tuple[int, str]]:
    """Line number and code of the page's python blocks, without those that follow `NOT_RUN`."""
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if not page[: match.start()].rstrip().endswith(NOT_RUN):
            found.append((page[: match.start()].count("\n") + 2, match[1]))
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if ">>>" in path.read_text(encoding="utf-8")], ids=label)
def test_examples_in_docstrings_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name_of(path))
    examples = [test for test in doctest.DocTestFinder().find(module, extraglobs={"tmp_path": tmp_path}) if test.examples]
    assert examples, "an example that doctest does not find"
    for example in examples:
        report = io.StringIO()
        with contextlib.redirect_stdout(report):
            failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example)
        assert not failed, report.getvalue()


@pytest.mark.parametrize("name", ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))])
def test_the_page_s_snippets_run(name, shared_run, tmp_path, monkeypatch):
    """In one namespace, in a folder whose `runs/demo` is a finished run."""
    shutil.copytree(shared_run.root, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in snippets((ROOT / name).read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def test_the_card_s_snippet_runs(shared_run, monkeypatch):
    """A checkpoint's own page; its snippet names the checkpoint."""
    ((line, code),) = snippets((shared_run.checkpoint / "README.md").read_text(encoding="utf-8"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, "card", "exec"), {})
    assert len(printed.getvalue().splitlines()) == 10


def test_commands_on_the_pages_are_understood():
    """Every `onesearch …` line of a page passes the parser."""
    from onesearch.cli import build_parser

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        blocks = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
        lines += [code for code in re.findall(r"`(onesearch [^`]*)`", text)]
        for line in lines:
            if line.startswith("onesearch ") and not {"…", "..."} & set(line.split()):
                parse(build_parser(), line)


def parse(parser, line: str) -> None:
    import shlex

    words = shlex.split(line)[1:]
    if any(word.isupper() or "|" in word for word in words):  # a placeholder such as RUN
        return
    try:
        parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"the parser refuses: {line}")


def test_blocks_marked_as_not_run_are_skipped():
    page = f"a\n\n```python\n1\n```\n\n{NOT_RUN}\n```python\n2\n```\n```\n3\n```\n"
    assert snippets(page) == [(4, "1\n")]
