"""The shell blocks of README and docs run as printed and in order: README's on the export of a small shop, from an empty folder."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_architecture import ROOT

from onesearch import Market, RunFolder, cli
from onesearch.files import read_json
from onesearch.parquet_files import write_table

NOT_RUN = "<!-- not run -->"

SETTINGS = """
name: small
encoder: {dimension: 16, vocab_size: 500, epochs: 1}
training:
  model: {text_vocab_size: 400, d_model: 32, encoder_layers: 1, decoder_layers: 1, attention_heads: 2, ffn_dim: 64}
  arguments: {num_train_epochs: 1, per_device_train_batch_size: 64, use_cpu: true}
  validation_requests: 10
search: {num_beams: 10}
evaluation: {sample: 20, tune_cascade: false, sasrec: false}
"""
"""The recipe that the commands find beside the run: small sizes, so that every command takes seconds."""


def shell_lines(page: Path) -> list[str]:
    """Commands of the page's shell blocks, without comments and without the blocks that follow `NOT_RUN`."""
    text, found = page.read_text(encoding="utf-8"), []
    fence = r"^```(\w*)\n(.*?)^```$"
    for block in re.finditer(fence, text, re.MULTILINE | re.DOTALL):
        if block[1] in ("", "bash", "sh", "console") and not text[: block.start()].rstrip().endswith(NOT_RUN):
            lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in block[2].splitlines())
            found += [line for line in lines if line]
    return found


def run_line(line: str) -> str:
    """Run one command in the current folder and return its output; `onesearch` runs in this process."""
    words = shlex.split(line)
    if words[0] != "onesearch":
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(words[1:])
    assert code == 0, f"{line}: exit code {code}"
    return out.getvalue()


KINDS = ("running shoe", "rain coat", "desk lamp", "oak chair", "steel kettle", "dome tent")
COLOURS = ("red", "blue", "green", "black", "white")


def write_export(folder: Path) -> None:
    """A shop's export: 300 products as CSV, and one line of the click log for each of 400 searches."""
    draw = random.Random(0)
    products = [(str(number), draw.choice(COLOURS), draw.choice(KINDS)) for number in range(1, 301)]
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["item_id", "title", "brand", "categories", "price"])
        for item, colour, kind in products:
            title = f'{colour} {kind}, model "{item}"'
            table.writerow([item, title, f"brand {int(item) % 7}", f"home|{kind.split()[-1]}", f"{int(item) / 7:.2f}"])
    with (folder / "click_log.jsonl").open("w", encoding="utf-8") as file:
        for number in range(400):
            item, colour, kind = draw.choice(products)
            seen = [item, draw.choice(products)[0]]
            session = {"session_id": f"s{number}", "user_id": f"u{number % 40}", "time": 1_700_000_000 + number}
            bought = [item] if number % 2 else []
            row = {**session, "query": f"{colour} {kind}", "clicked": list(dict.fromkeys(seen)), "purchased": bought}
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with nothing but the export, and the small settings for `runs/mine` and `runs/two`."""
    write_export(tmp_path)
    for name in ("mine", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shell_blocks_of_the_readme_run_in_order(shop):
    items = [{"item_id": "1", "title": "red running shoe", "brand": "Norvik"}, {"item_id": "2", "title": "blue rain coat"}]
    session = {"session_id": "s1", "user_id": "u1", "time": 1, "query": "running shoe", "clicked": ["1"], "purchased": ["1"]}
    info = {"name": "two", "language": "en", "split": {"method": "time", "validation": 0.05, "test": 0.1}}
    Market.from_rows(items=items, sessions=[session], info=info).save("runs/two/market")  # as the python block does
    lines = shell_lines(ROOT / "README.md")
    outputs = {line: run_line(line) for line in lines}
    assert [line.split()[1] for line in lines if line.startswith("onesearch")][:4] == ["data", "data", "sids", "train"]
    assert "300 items" in outputs["onesearch data tables my_files runs/mine/market"]
    assert outputs["onesearch data check runs/mine/market"] == "no problems\n"
    report = read_json("runs/mine/evaluation/metrics.json")
    assert report["requests"] == 20 and report["retrievers"]["onesearch"]["invalid_sid_rate"] == 0
    assert {"bm25", "dense"} <= set(report["retrievers"])
    (search,) = (line for line in lines if line.startswith("onesearch search"))
    assert len(outputs[search].splitlines()) == 10
    assert read_json("runs/two/sids/diagnostics.json")["codebook_sizes"]
    run_line("onesearch train runs/two")  # as the user goes on
    assert {line.split("\t")[1] for line in run_line('onesearch search runs/two "running shoe"').splitlines()} == {"1", "2"}


def test_items_alone_go_from_a_file_to_a_search(shop, caplog):
    """The other commands of the README; the reward model has nothing to learn from and the evaluation nothing to measure."""
    (shop / "click_log.jsonl").unlink()
    for line in shell_lines(ROOT / "README.md"):
        if "click_log" in line or "runs/two" in line:
            continue
        if line.startswith(("onesearch evaluate", "onesearch reward")):
            assert cli.main(shlex.split(line)[1:]) == 2
            continue
        output = run_line(line)
    assert len(output.splitlines()) == 10
    left_out = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert [line.split()[1] for line in left_out] == ["co-occurrence", "personalised"]


def test_a_few_items_train_and_are_found(shop):
    """Sizes follow the number of distinct vectors, not of items: equal titles have equal vectors."""
    titles = ["red running shoe", "blue rain coat", "oak chair", "red coat", *["rain shoe"] * 5]
    Market.from_rows(items=[{"item_id": str(row), "title": title} for row, title in enumerate(titles)]).save("runs/two/market")
    run_line("onesearch sids build runs/two")
    assert read_json("runs/two/sids/diagnostics.json")["codebook_sizes"] == [4, 2, 1, 4, 4]  # nine items would give 8
    run_line("onesearch train runs/two")
    hits = run_line("onesearch search runs/two shoe").splitlines()
    assert len({line.split("\t")[1] for line in hits}) == len(titles)


def test_a_catalogue_of_equal_titles_trains_and_is_found(shop):
    """No token tells one text from another, so that each counts alike instead of nothing."""
    Market.from_rows(items=[{"item_id": str(row), "title": "red shoe"} for row in range(2)]).save("runs/two/market")
    assert run_line("onesearch data check runs/two/market") == "no problems\n"
    run_line("onesearch sids build runs/two")
    run_line("onesearch train runs/two")
    assert [line.split("\t")[1] for line in run_line("onesearch search runs/two shoe").splitlines()] == ["0", "1"]


def test_too_large_codebooks_are_refused_with_flags_that_work(shop, capsys):
    run_line("mkdir my_files")
    run_line("cp products.csv my_files/items.csv")
    run_line("onesearch data tables my_files runs/mine/market")
    assert cli.main(["sids", "build", "runs/mine", "--residual-sizes", "512,8"]) == 2
    error = capsys.readouterr().err
    flags = re.search(r"--residual-sizes [\d,]+ --opq \d+x\d+", error)
    assert flags, error
    run_line(f"onesearch sids build runs/mine {flags[0]}")


DOCS = [page for page in sorted((ROOT / "docs").glob("*.md")) if shell_lines(page)]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_shell_blocks_of_a_page_run_in_order(page, shared_run, tmp_path, monkeypatch):
    """In a folder whose `runs/demo` is a finished run and `runs/mine` one without checkpoint, beside tables of new items."""
    for name in ("demo", "mine"):
        shutil.copytree(shared_run.root, tmp_path / "runs" / name)
    shutil.rmtree(tmp_path / "runs" / "mine" / "checkpoint")  # SIDs are built before the training
    monkeypatch.chdir(tmp_path)
    items = pq.read_table(shared_run.market / "items.parquet").slice(0, 3)
    items = items.set_column(0, "item_id", [["new-0", "new-1", "new-2"]])
    write_table(items, tmp_path / "new.parquet")
    index_table(RunFolder("runs/demo"), tmp_path / "new_items.parquet")
    for line in shell_lines(page):
        run_line(line)


def index_table(run: RunFolder, path: Path) -> None:
    """A table of one encoded item, with the codes of an item that the catalogue has."""
    import pyarrow as pa

    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

    index = SidIndex.load(run.checkpoint / "sid_index.safetensors")
    write_table(pa.table({"item_id": ["new-item"], "codes": [index.codes[0].tolist()]}), path)


def test_marked_blocks_and_other_languages_are_left_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        f"```\na b  # c\n```\n\n{NOT_RUN}\n```\nno\n```\n```python\nno\n```\n```bash\n# no\nd\n```\n", encoding="utf-8"
    )
    assert shell_lines(page) == ["a b", "d"]
