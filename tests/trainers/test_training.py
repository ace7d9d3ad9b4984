"""Training a run: stages, their order and resumption, and what a checkpoint holds afterwards."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from run_copies import copied
from safetensors.numpy import load_file
from tiny import tiny_causal_model, tiny_model
from transformers import AutoTokenizer

from onesearch import OneSearchForCausalLM, PromptLayout, Searcher, cli
from onesearch.files import _copy_others, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.checkpoint_folder import replaced_files
from onesearch.trainers.configs import SidLoraConfig, StageConfig, TrainingConfig
from onesearch.trainers.models import longest_prompt
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.stages import STAGE_NAME, check_stage_folder, remove_stage
from onesearch.trainers.training import train_run

STAGES = ["1-alignment", "2-co-occurrence", "3-personalised"]


@pytest.fixture
def untrained(shared_run, tmp_path):
    """The tiny run without training and checkpoint."""
    return copied(shared_run, tmp_path / "run")


def steps(config, count, **changes):
    """The configuration with one stage of a few steps."""
    arguments = {**config.arguments, "max_steps": count, "eval_strategy": "no", "save_strategy": "no"}
    return replace(config, stages=(StageConfig("personalised"),), arguments=arguments, **changes)


def weights(run):
    return load_file(run.checkpoint / "model.safetensors")


def test_every_stage_leaves_its_configuration_its_log_and_its_weights(shared_run):
    for name in STAGES:
        folder = shared_run.training / name
        assert (folder / "model" / "model.safetensors").is_file() and read_json(folder / "stage.json")["name"] == name[2:]
        assert {entry["stage"] for entry in read_json(folder / "log.json")} == {name[2:]}
    log = read_json(shared_run.training / "log.json")
    assert [stage for stage in dict.fromkeys(entry["stage"] for entry in log)] == [name[2:] for name in STAGES]
    measured = [entry for entry in log if "eval_hr@10" in entry]
    assert measured and all(entry["stage"] == "personalised" for entry in measured)
    assert len(list((shared_run.training / "examples").glob("*.arrow"))) >= 14


def test_a_checkpoint_holds_all_that_its_prompts_need(shared_run, shared_searcher):
    names = {path.name for path in shared_run.checkpoint.iterdir()}
    assert {"query_encoder", "default_histories.parquet", "sid_index.safetensors"} <= names
    config = shared_searcher.model.config
    assert (config.long_view_tokens, config.long_view_sequences, config.long_view_levels) == (3, 2, 3)
    assert config.long_view_token_id == shared_searcher.tokenizer.long_view_token_id
    assert shared_searcher.tokenizer.prompt == PromptLayout()


def test_a_stopped_training_goes_on_with_the_stage_it_was_in(shared_run, run, recipe):
    expected = weights(shared_run)
    shutil.rmtree(run.checkpoint)
    shutil.rmtree(run.training / STAGES[2])
    first = (run.training / STAGES[0] / "model" / "model.safetensors").stat().st_mtime_ns
    train_run(run, recipe.training, resume=True, progress=False)
    assert (run.training / STAGES[0] / "model" / "model.safetensors").stat().st_mtime_ns == first
    found = weights(run)
    assert found.keys() == expected.keys() and all((found[name] == expected[name]).all() for name in expected)
    assert {entry["stage"] for entry in read_json(run.training / "log.json")} == {name[2:] for name in STAGES}


def test_a_stage_of_another_configuration_is_not_resumed(run, recipe):
    stages = (StageConfig("alignment", {"item-text-to-sid": 1}), *recipe.training.stages[1:])
    with pytest.raises(ValueError, match="another configuration of stage 'alignment'"):
        train_run(run, replace(recipe.training, stages=stages), resume=True, progress=False)


def test_training_anew_forgets_what_was(run, recipe):
    search = SearchConfig(num_beams=7, rank_by="item", exclude_history=True)
    mine = {"notes.md": "mine", "README.md": (run.checkpoint / "README.md").read_text(encoding="utf-8") + "mine"}
    for name, text in mine.items():
        (run.checkpoint / name).write_text(text, encoding="utf-8")
    train_run(run, steps(recipe.training, 1, prompt=PLAIN_LAYOUT), search, progress=False)
    assert {name: (run.checkpoint / name).read_text(encoding="utf-8") for name in mine} == mine
    assert read_json(run.training / "1-personalised" / "stage.json")["name"] == "personalised"
    assert SearchConfig.from_pretrained(run.checkpoint) == search
    searcher = Searcher.from_pretrained(run.checkpoint, num_beams=5)
    assert searcher.tokenizer.prompt == PLAIN_LAYOUT and searcher.views.query_encoder is None
    assert not (run.checkpoint / "query_encoder").exists() and len(searcher.search("red shoe", top_k=3)) == 3


def test_everything_that_a_run_wrote_into_a_checkpoint_goes_with_it(shared_run, tmp_path):
    """The card too, as long as nobody has edited it; only its picture may stay."""
    (tmp_path / "new").mkdir()
    _copy_others(shared_run.checkpoint, tmp_path / "new", replaced_files(shared_run.checkpoint))
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {"diagnostics.png"}


WAYS = {"adapter": {"lora": SidLoraConfig(r=2)}, "streaming": {"streaming": True}, "self-distillation": {"distillation": {}}}
DROPOUT = 0.1
"""Self-distillation compares dropout passes; the tiny recipe has no dropout."""


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_other_ways_to_train(untrained, recipe, changes):
    model = replace(recipe.training.model, dropout=DROPOUT)
    train_run(untrained, steps(recipe.training, 2, model=model, **changes), progress=False)
    searcher = Searcher.from_pretrained(untrained.checkpoint, num_beams=5)
    assert len(searcher.search("red shoe", top_k=3)) == 3
    assert not [name for name in weights(untrained) if "lora" in name]  # merged


def test_a_decoder_alone(untrained, recipe):
    model = replace(recipe.training.model, backbone="qwen3")
    train_run(untrained, steps(recipe.training, 2, model=model), progress=False)
    searcher = Searcher.from_pretrained(untrained.checkpoint, num_beams=5)
    assert isinstance(searcher.model, OneSearchForCausalLM)
    items = searcher.model.sid_index.item_ids[:3]
    assert len(searcher.search("red shoe", items, top_k=3)) == 3


def test_a_task_on_sids_of_queries_gets_them_though_prompts_show_none(untrained, recipe):
    stages = (StageConfig("mine", {"item-sid-to-query-sid": 1}),)
    config = replace(recipe.training, stages=stages, prompt=PLAIN_LAYOUT)
    builder = load_inputs(untrained, config).builder
    assert sum(map(len, builder.chunks("item-sid-to-query-sid", "train"))) > 0


def test_a_market_without_what_a_stage_learns_says_so(untrained, recipe):
    from onesearch.data.market import Market

    market = Market.load(untrained.market)
    empty = replace(market, sessions=market.sessions.select([]).flatten_indices())
    empty.save(untrained.market, overwrite=True)
    with pytest.raises(ValueError, match="nothing to train on.*clicks"):
        train_run(untrained, steps(recipe.training, 1, prompt=PLAIN_LAYOUT), progress=False)


def state(run):
    return {path: path.stat().st_mtime_ns for path in run.root.rglob("*") if path.is_file()}


REFUSED = {
    "learning rate": ({"arguments": {"learning_rate": float("nan")}}, "learning_rate=nan: only finite numbers"),
    "batch size": (
        {"arguments": {"per_device_train_batch_size": 0}},
        "per_device_train_batch_size=0: whole numbers of at least 1",
    ),
    "negative": ({"arguments": {"weight_decay": -0.1}}, "weight_decay=-0.1: numbers of at least 0"),
    "infinite": ({"arguments": {"adam_epsilon": float("inf")}}, "adam_epsilon=inf: only finite numbers"),
    "second stage": (
        {"stages": (StageConfig("alignment"), StageConfig("personalised", arguments={"max_grad_norm": float("nan")}))},
        "max_grad_norm=nan",
    ),
    "distillation": ({"distillation": {"kl_weight": float("nan")}}, "kl_weight=nan"),
    "R-Drop without dropout": ({"distillation": {}}, "r_drop_weight=0.5 compares two dropout passes.*dropout=0.0"),
    "endless": ({"streaming": True}, "set max_steps"),
    "long view": ({"model": "missing"}, "missing"),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_removed_before_everything_is_checked(run, recipe, changes, words):
    before, changes = state(run), dict(changes)
    if "arguments" in changes:
        changes["arguments"] = {**recipe.training.arguments, **changes["arguments"]}
    if changes.get("model"):
        changes["model"] = replace(recipe.training.model, checkpoint=str(run.root / "missing"))
    with pytest.raises((ValueError, OSError), match=words):
        train_run(run, replace(recipe.training, **changes), progress=False)
    assert state(run) == before


def test_a_stage_without_examples_is_left_out_with_one_line(run, recipe, caplog):
    from onesearch.data.market import Market

    market = Market.load(run.market)
    replace(market, sessions=market.sessions.select([]).flatten_indices()).save(run.market, overwrite=True)
    config = replace(
        recipe.training, prompt=PLAIN_LAYOUT, stages=(StageConfig("a", {"item-words": 1}), StageConfig("personalised"))
    )
    shutil.rmtree(run.training)
    train_run(run, config, progress=False)
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert lines == [f"stage personalised is left out: the market has no examples of {', '.join(config.stages[1].tasks)}"]
    assert {path.name for path in run.training.iterdir()} == {"1-a", "examples", "log.json"}
    assert {entry["stage"] for entry in read_json(run.training / "log.json")} == {"a"}


def test_a_training_of_which_no_stage_has_examples_removes_nothing(run, recipe):
    from onesearch.data.market import Market

    market = Market.load(run.market)
    replace(market, sessions=market.sessions.select([]).flatten_indices()).save(run.market, overwrite=True)
    before = state(run)
    config = replace(recipe.training, prompt=PLAIN_LAYOUT, stages=(StageConfig("personalised"),))
    with pytest.raises(ValueError, match="nothing to train on: the market has no examples of stage 'personalised': "):
        train_run(run, config, progress=False)
    examples = run.training / "examples"
    assert before.items() <= state(run).items() and {path.parent for path in state(run).keys() - before.keys()} <= {examples}


@pytest.mark.parametrize("name", ["output_dir", "logging_dir", "disable_tqdm", "resume_from_checkpoint"])
def test_arguments_that_the_run_owns_are_refused(name):
    for make in (
        lambda values: TrainingConfig(arguments=values),
        lambda values: TrainingConfig(distillation=values),
        lambda values: StageConfig("personalised", arguments=values),
    ):
        with pytest.raises(ValueError, match=f"sets {name}='.', but .*; leave it out"):
            make({name: "."})


def test_a_recipe_with_a_folder_of_its_own_is_refused(run, tmp_path, capsys):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter.txt").write_text("mine")
    text = (run.root / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text.replace("  arguments:\n", f"  arguments:\n    output_dir: {precious}\n", 1))
    assert "output_dir" in (tmp_path / "recipe.yaml").read_text()
    assert cli.main(["train", str(run.root), "--recipe", str(tmp_path / "recipe.yaml")]) != 0
    assert "output_dir" in capsys.readouterr().err
    assert (precious / "letter.txt").read_text() == "mine"


def test_the_command_line_keeps_the_earlier_training_when_it_refuses_a_number(run, capsys):
    before = state(run)
    for flag, value in (("--learning-rate", "nan"), ("--learning-rate", "-1"), ("--epochs", "inf")):
        with pytest.raises(SystemExit):
            cli.main(["train", str(run.root), flag, value])
        assert f"{flag}: {value} must be above 0 and finite" in capsys.readouterr().err
    assert state(run) == before


@pytest.mark.parametrize("name", ["../../x", "a/b", ".", "..", ".hidden", "", "a b", "/x"])
def test_the_name_of_a_stage_is_that_of_a_folder(name):
    with pytest.raises(ValueError, match="is no name of a folder"):
        StageConfig(name, {"purchases": 1})
    assert StageConfig("第一-stage_2.b", {"purchases": 1}).name == "第一-stage_2.b"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["files", "link", "file", "checkpoint"])
def test_only_folders_of_stages_are_removed(untrained, recipe, tmp_path, kind, resume):
    place = untrained.checkpoint if kind == "checkpoint" else untrained.training / "1-personalised"
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "letter.txt").write_text("mine")
    before = state(untrained)
    with pytest.raises(FileExistsError, match="move it away"):
        train_run(untrained, steps(recipe.training, 1, prompt=PLAIN_LAYOUT), resume=resume, progress=False)
    assert state(untrained) == before


def test_a_stopped_removal_is_finished(tmp_path):
    for name in (".removed-1-a", "1-a", "2-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stage.json").write_text("{}")
    remove_stage(tmp_path / "1-a")
    assert [path.name for path in tmp_path.iterdir()] == ["2-b"]
    remove_stage(tmp_path / "nowhere")


def test_the_tokenizer_knows_the_longest_prompt(shared_searcher, shared_run):
    tokenizer = AutoTokenizer.from_pretrained(shared_run.checkpoint)
    model = shared_searcher.model
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 512
    for text in ("jacket " * 2000, tokenizer.render_prompt("jacket " * 2000)):
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        assert inputs.input_ids.shape[1] <= 512 and inputs.input_ids[0, -1] == tokenizer.eos_token_id
        assert model.search(**{name: inputs[name] for name in ("input_ids", "attention_mask")}, num_beams=3, top_k=3)


@pytest.mark.parametrize("kind", [tiny_model, tiny_causal_model])
def test_a_prompt_leaves_room_for_the_sid_behind_it(kind):
    model = kind()
    assert longest_prompt(model) == 64 - (0 if model.config.is_encoder_decoder else 3)


def test_a_stage_that_another_process_begins_meanwhile_is_no_stranger(tmp_path, monkeypatch):
    """The file appears between two looks at the folder; under load this stopped a training of two processes."""
    folder = tmp_path / "1-personalised"
    folder.mkdir()
    listed = type(folder).iterdir

    def written_first(path):
        (folder / STAGE_NAME).write_text("{}")
        return listed(path)

    monkeypatch.setattr(type(folder), "iterdir", written_first)
    check_stage_folder(folder)
    monkeypatch.undo()
    (folder / STAGE_NAME).rename(folder / "other.json")
    with pytest.raises(FileExistsError, match="holds other.json"):
        check_stage_folder(folder)
