"""A run on the Hub: published in one commit or not at all, fetched back with the same hits, and people's edits of its card kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from onesearch import Searcher
from onesearch.cli import main
from onesearch.data.requests import build_requests
from onesearch.model_cards.card import write_card
from onesearch.model_cards.publishing import plan_push, pull, push_run
from onesearch.modeling_onesearch.card_onesearch import prose_of

REPO = "shop/tiny"

PARTS = {
    *(
        "config.json",
        "model.safetensors",
        "modeling_onesearch.py",
        "tokenizer.json",
        "tokenization_sid.py",
        "search_config.json",
    ),
    *("sid_index.safetensors", "query_encoder/codebooks.safetensors", "query_encoder/encoder/modules.json"),
    *("README.md", "diagnostics.png", "evaluation/metrics.json", "evaluation/latency.json"),
}
REWARD_PARTS = {
    "reward/model.safetensors",
    "reward/memory.safetensors",
    "reward/encoder/modules.json",
    "text_index.safetensors",
}

WITHOUT_THE_PACKAGE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "onesearch":
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Blocker())
exec(sys.stdin.read())
"""


def head(hub):
    return hub.repos[REPO].branches["main"] if REPO in hub.repos else None


def sent(hub, method, part):
    return [path for verb, path in hub.requests if verb == method and part in path]


def snippets(text):
    return [part.partition("\n```")[0] for part in text.split("```python\n")[1:]]


def test_everything_is_published_in_one_commit_and_searches_as_before(rewarded, market, hub, tmp_path):
    published = push_run(rewarded, REPO, private=True)
    files = hub.files[REPO]
    assert {*PARTS, *REWARD_PARTS} <= set(files) and hub.repos[REPO].private
    assert len(sent(hub, "POST", "/commit/")) == 1 and published.commit == head(hub) == hub.repos[REPO].tags[published.tag]
    assert not [name for name in files if name.endswith(".lock")]
    requests = build_requests(market, "test")[:10]
    expected = Searcher.from_pretrained(rewarded.checkpoint).hits(requests, 10)
    folder = pull(REPO, tmp_path / "pulled", published.tag)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(files)
    for found in (Searcher.from_pretrained(REPO, revision=published.tag), Searcher.from_pretrained(folder)):
        assert found.config.rerank and found.hits(requests, 10) == expected
    (code, alone) = snippets(files["README.md"].decode())
    assert f'revision="{published.tag}"' in code
    searcher = Searcher.from_pretrained(folder)
    prompt = searcher.tokenizer(searcher.tokenizer.render_prompt(code.split('search("')[1].split('"')[0]), return_tensors="pt")
    (generator,) = searcher.model.search(**prompt, top_k=10)
    assert "Its prompt then lacks the SID of the query, default histories and the long view" in files["README.md"].decode()
    environment = {**os.environ, **hub.environment(tmp_path / "home"), "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-I", "-c", WITHOUT_THE_PACKAGE]
    finished = subprocess.run(command, input=alone, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert [line.split()[0] for line in finished.stdout.splitlines()] == [hit.item_id for hit in generator]


def test_a_second_push_renews_generated_parts_and_keeps_what_people_wrote(run, hub):
    push_run(run, REPO)
    text = hub.files[REPO]["README.md"].decode()
    edited = text.replace("## Limits\n", "## Limits\n\nNot for medicine.\n").replace(
        "license: apache-2.0", "license: cc-by-4.0"
    )
    hub.edit(REPO, "README.md", edited.replace(" of the items have a SID of their own", " of all items are alone").encode())
    hub.edit(REPO, "notes.md", b"somebody's")
    hub.edit(REPO, "reward/reward.json", b"{}")
    metrics = run.evaluation / "metrics.json"
    old = metrics.read_text()
    requests = f'"requests": {run_requests(old)}'
    metrics.write_text(old.replace(requests, '"requests": 4321', 1))
    published = push_run(run, REPO)
    files = hub.files[REPO]
    new = files["README.md"].decode()
    assert (
        "Not for medicine." in new and "license: cc-by-4.0" in new and "4,321 requests" in new and "4,321 requests" not in text
    )
    assert published.kept == ["codes"] and "of all items are alone" in new
    assert files["notes.md"] == b"somebody's" and "reward/reward.json" not in files
    ModelCard(new).validate()


def run_requests(text):
    import json

    return json.loads(text)["requests"]


def test_cards_that_were_edited_on_both_sides_are_not_mixed(run, hub):
    push_run(run, REPO)
    card = run.checkpoint / "README.md"
    hub.edit(REPO, "README.md", hub.files[REPO]["README.md"].replace(b"## Limits\n", b"## Limits\n\nFrom the Hub.\n"))
    card.write_text(card.read_text().replace("## Limits\n", "## Limits\n\nFrom here.\n"))
    before, own = head(hub), card.read_text()
    with pytest.raises(ValueError, match=r"both the card on the Hub and .*README.md were edited, and differ; --card hub keeps"):
        push_run(run, REPO)
    assert head(hub) == before and card.read_text() == own
    push_run(run, REPO, card="local")
    assert b"From here." in hub.files[REPO]["README.md"] and b"From the Hub." not in hub.files[REPO]["README.md"]
    card.write_text(own.replace("From here.", "From here, later."))
    push_run(run, REPO)  # nobody has edited what the last push wrote
    assert b"From here, later." in hub.files[REPO]["README.md"]


def test_a_refused_push_says_why_and_publishes_nothing(run, hub, monkeypatch):
    with pytest.raises(PermissionError, match=r"\(403\): .*no right to write for other"):
        push_run(run, "other/tiny")
    with pytest.raises(ValueError, match="'a/b/c' is no name of a repository"):
        push_run(run, "a/b/c")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PermissionError, match=r"refuses shop/tiny \(401\).*hf auth login"):
        push_run(run, REPO)
    assert not hub.repos
    monkeypatch.setenv("HF_TOKEN", "hf_fake")
    hub.faults = [("POST", "/commit/", 500)]
    with pytest.raises(
        ConnectionError, match=r"the Hub failed on shop/tiny \(500\); nothing was published, run the same command again"
    ):
        push_run(run, REPO)
    assert set(hub.files[REPO]) == {".gitattributes"} and not hub.repos[REPO].tags
    uploads = len(sent(hub, "PUT", "/lfs/"))
    push_run(run, REPO)
    assert set(hub.files[REPO]) > PARTS and len(sent(hub, "PUT", "/lfs/")) == uploads, "large files are not sent twice"


def test_a_transfer_that_breaks_off_is_tried_again(run, hub):
    hub.faults = [("PUT", "/lfs/", 0), ("PUT", "/lfs/", 503)]
    push_run(run, REPO)
    assert not hub.faults and set(hub.files[REPO]) > PARTS
    before = head(hub)
    (run.checkpoint / "text_index.safetensors").write_bytes(b"another large file")
    hub.faults = [("PUT", "/lfs/", 0)] * 6
    with pytest.raises(
        ConnectionError, match="the transfer to or from shop/tiny broke off .*; nothing was published, run the same command"
    ):
        push_run(run, REPO)
    assert head(hub) == before
    hub.faults = []
    push_run(run, REPO)
    assert hub.files[REPO]["text_index.safetensors"] == b"another large file"


def test_somebody_else_s_commit_in_between_is_not_overwritten(run, hub, monkeypatch):
    push_run(run, REPO)
    from onesearch.model_cards import publishing

    real = publishing.card_text

    def meanwhile(*arguments):
        hub.edit(REPO, "README.md", b"theirs")
        return real(*arguments)

    monkeypatch.setattr(publishing, "card_text", meanwhile)
    with pytest.raises(ConnectionError, match=r"somebody changed shop/tiny meanwhile \(412\)"):
        push_run(run, REPO)
    assert hub.files[REPO]["README.md"] == b"theirs"


def test_the_commands_publish_a_branch_and_fetch_it(run, hub, tmp_path, capsys):
    assert main(["push", str(run.root), REPO, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not hub.requests and f"bytes in {len(plan_push(run))} files; nothing was published" in lines[-1]
    size = (run.checkpoint / "model.safetensors").stat().st_size
    assert f"{size:>14,}  model.safetensors" in lines
    assert main(["push", str(run.root), REPO, "--revision", "next"]) == 0
    assert "pinned by the tag content-" in capsys.readouterr().out
    assert set(hub.files[REPO]) == {".gitattributes"} and PARTS <= set(
        hub.repos[REPO].commits[hub.repos[REPO].branches["next"]]
    )
    assert main(["pull", REPO, str(tmp_path / "next"), "--revision", "next"]) == 0
    assert (tmp_path / "next" / "model.safetensors").read_bytes() == (run.checkpoint / "model.safetensors").read_bytes()
    for words, message in {
        ("pull", REPO, str(tmp_path / "next")): "exists and is not empty; nothing was changed",
        ("pull", REPO, str(tmp_path / "main")): "shop/tiny holds no checkpoint of onesearch (no config.json)",
        ("pull", REPO, str(tmp_path / "main"), "--revision", "none"): "shop/tiny has no such revision",
        ("pull", "shop/none", str(tmp_path / "main")): "shop/none does not exist on the Hub",
        ("push", str(tmp_path / "none"), REPO): "checkpoint does not exist; make it with `onesearch train`",
    }.items():
        assert main(list(words)) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "main").exists()


def test_a_card_without_markers_keeps_its_text(run, hub):
    push_run(run, REPO)
    hub.edit(REPO, "README.md", b"---\nlanguage: de\ntags: [shop]\n---\n# Ours\n\nOnly words.\n")
    push_run(run, REPO)
    card = ModelCard(hub.files[REPO]["README.md"].decode())
    assert prose_of(str(card)).startswith("# Ours\n\nOnly words.") and "onesearch:results" not in card.text
    assert card.data.language == "de" and card.data.tags[0] == "shop" and card.data.library_name == "transformers"
    assert {result.metric_type for result in card.data.eval_results} >= {"purchase_hr_at_10", "click_hr_at_10"}


def test_the_card_of_a_run_names_no_folder_of_this_machine(run):
    write_card(run, "tiny")
    text = (run.checkpoint / "README.md").read_text()
    assert str(run.root) not in text and '"tiny/checkpoint"' in text
