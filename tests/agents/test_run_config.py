"""What a run is told is said once: flags, run.json and the graph's context are views of one record's fields."""

import json
import re
from contextlib import suppress

import pytest

from steergraph.agents.graph import build_graph
from steergraph.agents.run_config import Context, RunConfig, flags
from steergraph.base.errors import InputError
from steergraph.cli import main
from steergraph.cli.run_folder import RunFolder, run_record
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.folder import BatchFolder

OLD_RUN = """{
  "model": "pocket", "roster": null, "vectors": null, "policy": null,
  "input": {"kind": "reasoning", "problem": "1 + 1?", "choices": [], "examples": []},
  "context": {"preset": "static", "steering": null, "retrieval": "off", "gate": null, "test": null,
    "unsafe_tests": false, "max_seconds": 0.0, "max_tokens": 0, "max_repairs": 2, "seed": 7, "thinking": false},
  "state": null, "command": "steergraph ask '1 + 1?'"
}"""
OWN = {  # options of a command that are no part of how a run is to go
    "run": {"repo", "commit", "issue", "swebench", "instance", "apply", "resume", "out", "state", "json", "help"},
    "ask": {"choices", "examples", "resume", "out", "state", "json", "help"},
    "bench": {
        *("dataset", "split", "instances", "repos", "presets", "jobs", "run_id", "runs", "retry_errors", "state"),
        *("ray", "replicas", "json", "help"),
    },
}


@pytest.mark.parametrize(("command", "config"), [("run", RunConfig), ("ask", RunConfig), ("bench", BatchConfig)])
def test_the_options_are_the_fields(command, config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    words = ["bench", "swebench"] if command == "bench" else [command]
    with suppress(SystemExit):
        main([*words, "--help"])
    options = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z-]*)", capsys.readouterr().out)}
    assert options - OWN[command] == set(flags(config, command))


def test_run_json_holds_the_options_and_comes_back():
    config = RunConfig(preset="static", retrieval="off", max_repairs=2, seed=7, router="model")
    record = run_record(config, {"problem": "x"}, None, "steergraph run")
    told = record.keys() - {"input", "context", "state", "thread", "command"}
    assert told | record["context"].keys() == set(flags(RunConfig, "run"))
    assert record["context"].keys() <= Context.model_fields.keys() and told.isdisjoint(Context.model_fields)
    assert RunConfig.of_record(json.loads(json.dumps(record)), "run.json") == config


def test_a_batchs_run_json_holds_the_options_and_comes_back(tmp_path):
    config = BatchConfig(samples=3, seed=4, test="make test", uid="u")
    request = {"presets": [], "instances": {}, "command": "", **config.record("bench")}
    begun = BatchFolder.open(tmp_path, "r").begin(request)
    assert set(flags(BatchConfig, "bench")) <= begun.keys()
    assert BatchConfig.of_record({**begun, "uid": "u"}, "run.json") == config


def test_every_field_of_the_context_is_json_with_a_default():
    context = Context()
    assert Context.model_validate_json(context.model_dump_json()) == context
    assert set(build_graph().get_context_jsonschema()["properties"]) == set(Context.model_fields)
    assert RunConfig.model_fields.keys() > Context.model_fields.keys()
    assert Context.of(RunConfig(seed=3)).seed == 3


def test_records_of_older_versions_are_read(tmp_path):
    (tmp_path / "run.json").write_text(OLD_RUN, encoding="utf-8")
    config = RunFolder.open(str(tmp_path)).config
    assert config == RunConfig(preset="static", retrieval="off", max_repairs=2, seed=7)
    (tmp_path / "run.json").write_text(OLD_RUN.replace('"off"', '"of"'), encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.json: retrieval: Input should be 'on' or 'off'$"):
        _ = RunFolder.open(str(tmp_path)).config


def test_a_batch_of_an_older_version_goes_on(tmp_path):
    """A run.json that lacks an option was begun with its default."""
    request = {"presets": [], "instances": {}, "command": "", **BatchConfig().record("bench")}
    folder = BatchFolder.open(tmp_path, "r")
    folder.begin(request)
    folder.keep_model({"name": "pocket", "revision": "1"})
    path = folder.path / "run.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["deterministic"]
    path.write_text(json.dumps(old), encoding="utf-8")
    folder.begin(request)
    path.write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(InputError, match="begun with deterministic false, not true"):
        folder.begin({**request, "deterministic": True})


def test_only_what_lies_here_is_made_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coder").mkdir()  # short names go before folders that are called alike
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    names = ("coder", "pocket", "Qwen/Qwen3-4B", "mine.gguf", "./coder")
    found = [RunConfig(model=name).anywhere().model for name in names]
    assert found == [*names[:3], str(tmp_path / "mine.gguf"), str(tmp_path / "coder")]


def test_a_record_whose_context_is_no_object_is_refused() -> None:
    with pytest.raises(InputError, match=r"run\.json: context"):
        RunConfig.of_record({"model": "pocket", "context": [1]}, "run.json")


@pytest.mark.parametrize("wrong", [{"vector": ""}, {"temperature": -1}])
def test_an_empty_name_and_a_negative_number_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Context.of({"steergraph": wrong})
