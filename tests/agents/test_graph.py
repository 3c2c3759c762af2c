"""The state machine, told what to say by a scripted engine, over a real repository and a real sandbox."""

import asyncio
import json
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from steergraph.agents.graph import build_graph, next_step
from steergraph.agents.run_config import Context
from steergraph.agents.specialists import FIXED_NODES, Roster, resolve_steering
from steergraph.agents.state import STATE_KEYS, Outcome
from steergraph.base.errors import InputError
from steergraph.configs import ConfigError
from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ISSUE = (EXAMPLES / "issues" / "stock.md").read_text(encoding="utf-8")
TASK = {"problem": ISSUE, "repo": str(EXAMPLES / "pantry.bundle")}
TEST = "python -m unittest tests.test_stock"
SPEAKERS = ["bug_analysis", "test_reasoning", "code_reading", "patch_writing"]


def block(search: str, replace: str, path: str = "pantry/stock.py") -> str:
    return f"{path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"


def speaks(request: Request) -> str:
    """A model that does its job: it repairs the comparison that it finds in its prompt."""
    system, user = (message.content for message in request.messages)
    if "fix bugs" not in system:
        return "The comparison in `low_items` leaves out items at the limit."
    line = next((line for line in user.splitlines() if "< limit" in line and "|" in line), None)
    if line is None:
        return "I can't see the code."
    code = line.split("|", 1)[1]
    return block(code, code.replace("< limit", "<= limit"))


def graph_of(reply=speaks, **options):
    engine = ScriptedEngine(reply)
    return build_graph(engine=engine, **options), engine


def events_of(graph, task=TASK, context=None, config=None):
    return list(graph.stream(task, config, context=context, stream_mode="custom"))


def test_an_issue_becomes_a_checked_patch(sandbox_context):
    graph, engine = graph_of()
    out = graph.invoke(TASK, context=sandbox_context(TEST))
    assert out["status"] == "patched"
    assert out["patch"].startswith("diff --git a/pantry/stock.py b/pantry/stock.py")
    assert (out["tests"]["before"]["passed"], out["tests"]["after"]["passed"]) == (False, True)
    assert [s["specialist"] for s in out["steps"]] == SPEAKERS
    assert "pantry/stock.py" in out["files_found"]
    assert len(engine.requests) == 4
    Outcome.model_validate(out)
    json.dumps(out)


def test_what_earlier_specialists_said_reaches_the_patch_prompt():
    graph, engine = graph_of()
    graph.invoke(TASK)
    prompt = engine.requests[-1].messages[1].content
    assert prompt.count("The comparison in `low_items`") == 3
    assert "### pantry/stock.py" in prompt


def test_suspects_reach_the_query():
    graph, _ = graph_of()
    found = next(e for e in events_of(graph) if e["event"] == "retrieved")
    assert "low_items" in found["query"]


def test_without_retrieval_nobody_sees_code_and_the_patch_is_still_checked():
    graph, engine = graph_of(
        lambda r: block("    return 1", "    return 2") if "fix bugs" in r.messages[0].content else "x `y`"
    )
    out = graph.invoke(TASK, context=Context(retrieval="off", max_repairs=0))
    assert all("### pantry" not in r.messages[1].content for r in engine.requests)
    assert out["status"] == "edit_did_not_apply" and out["patch"] is None
    assert out["files_found"] == []


def test_repair_is_bounded_told_why_and_samples():
    graph, engine = graph_of(
        lambda r: block("nowhere", f"x{r.seed}") if "fix bugs" in r.messages[0].content else "a `b`"
    )
    out = graph.invoke(TASK, context=Context(max_repairs=2))
    patches = [s for s in out["steps"] if s["specialist"] == "patch_writing"]
    assert [s["attempt"] for s in patches] == [0, 1, 2]
    asked = [r for r in engine.requests if "fix bugs" in r.messages[0].content]
    assert "Feedback on your last edit" not in asked[0].messages[1].content
    assert all("Feedback on your last edit" in r.messages[1].content for r in asked[1:])
    assert ["Notes:" in r.messages[1].content for r in asked] == [True, False, False]
    assert asked[0].sampling.temperature == 0 and asked[1].sampling.temperature > 0
    assert len({r.seed for r in asked}) == 3
    assert out["status"] == "edit_did_not_apply" and out["problems"]


def test_once_an_attempt_only_repeats_another_each_next_one_is_fresh():
    """Shown its own wrong line, a small model copies it; without it, and warmer, it may say something else."""
    said = iter(("    return 1", "    return 2", "    return 2", "    return 3", "    return 3"))
    graph, engine = graph_of(
        lambda r: block("nowhere", next(said)) if "fix bugs" in r.messages[0].content else "Look at `low_items`."
    )
    graph.invoke(TASK, context=Context(max_repairs=4))
    asked = [request for request in engine.requests if "fix bugs" in request.messages[0].content]
    words = [request.messages[1].content for request in asked]
    assert ["Feedback" in text for text in words] == [False, True, True, False, False]
    assert ["Notes" in text for text in words] == [True, False, False, False, False]
    assert words[3].count("### ") == words[0].count("### ")  # all of the context again
    temperatures = [request.sampling.temperature for request in asked]
    assert temperatures == pytest.approx([0.0, 0.7, 0.7, 0.8, 0.8])


def test_a_second_attempt_can_succeed(sandbox_context):
    said = iter([block("    return 0", "    return 1"), None])

    def reply(request):
        if "fix bugs" not in request.messages[0].content:
            return "a `b`"
        return next(said) or speaks(request)

    graph, _ = graph_of(reply)
    out = graph.invoke(TASK, context=sandbox_context(TEST))
    assert out["status"] == "patched" and out["problems"] == []
    assert [s["attempt"] for s in out["steps"] if s["specialist"] == "patch_writing"] == [0, 1]


def test_a_patch_that_fails_its_tests_is_not_submitted(sandbox_context):
    def reply(request):
        text = speaks(request)
        return text.replace("<= limit", "> limit") if "SEARCH" in text else text

    graph, _ = graph_of(reply)
    out = graph.invoke(TASK, context=sandbox_context(TEST, max_repairs=1))
    assert out["status"] == "checks_failed" and out["patch"] is None
    assert out["tests"]["after"]["passed"] is False


USELESS = {
    "none": (None, "no test was given"),
    "passes": ("true", "it passes without a patch"),
    "not found": ("no-such-program tests", "it is not there to be run (exit code 127)"),
    "unparsed": ("python -c 'print(", "the shell can't read it"),
    "no module": ("python -m unittest tests.test_nowhere", "it finds no test: No module named 'tests.test_nowhere'"),
    "no test": ("python -m unittest tests.test_stock.Nowhere", "it finds no test: AttributeError: module"),
    "no program": ("python -m nowhere.at_all", "it finds no test: No module named"),
    "no file": ("python tests/nowhere.py", "it finds no test: can't open file"),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_test_that_cannot_show_the_defect_is_said_before_a_model_speaks(case, sandbox_context):
    command, why = USELESS[case]
    graph, engine = graph_of()
    seen = []
    context = sandbox_context(command)
    for event in graph.stream(TASK, context=context, stream_mode="custom"):
        if event["event"] == "tested":
            seen.append((len(engine.requests), event["before"]["useless"]))
    assert [spoken for spoken, _ in seen] == ([] if command is None else [0])
    assert all(why in said for _, said in seen)
    out = graph.invoke(TASK, context=context)
    assert out["status"] == "patched_untested" and out["patch"] and out["tests"] is None
    assert why in out["untested"] and "\n" not in out["untested"]
    Outcome.model_validate(out)


def test_what_a_test_imports_may_be_what_is_missing(sandbox_context):
    """It fails for want of the very thing that a patch may bring."""
    graph, _ = graph_of()
    out = graph.invoke(TASK, context=sandbox_context("python -c 'import pantry.nowhere'", max_repairs=0))
    assert out["status"] == "checks_failed" and out["tests"]["before"]["useless"] is None


def test_the_run_without_a_patch_is_made_once_and_serves_every_repair(sandbox_context):
    said = iter([block("    return 0", "    return 1")] * 2)

    def reply(request):
        if "fix bugs" not in request.messages[0].content:
            return "a `b`"
        return next(said, None) or speaks(request)

    graph, _ = graph_of(reply)
    events = events_of(graph, context=sandbox_context(TEST))
    checks = [event["tests"] for event in events if event["event"] == "check"]
    (before,) = [event["before"] for event in events if event["event"] == "tested"]
    assert before["useless"] is None and not before["passed"]
    assert checks and all(tests["before"] == before for tests in checks)


def test_a_test_that_passed_before_and_fails_now_still_refuses_the_patch(sandbox_context):
    graph, _ = graph_of()
    context = sandbox_context("grep -q '< limit' pantry/stock.py", max_repairs=0)
    out = graph.invoke(TASK, context=context)
    assert out["status"] == "checks_failed" and "it passed before the patch" in out["problems"][0]
    assert out["tests"]["before"]["passed"] and not out["tests"]["after"]["passed"]


def test_a_blank_test_is_no_test_and_is_refused():
    with pytest.raises(ValueError, match="the command is empty"):
        Context(test="  ")


def test_an_edit_that_leaves_the_repository_is_refused():
    for path in ("../outside.py", "/etc/passwd", ".git/hooks/pre-commit", "pantry/../../x.py"):
        graph, _ = graph_of(lambda r, p=path: block("", "x = 1", p) if "fix bugs" in r.messages[0].content else "a")
        out = graph.invoke(TASK, context=Context(max_repairs=0))
        assert out["status"] == "edit_did_not_apply" and out["patch"] is None, path


def test_the_token_budget_ends_the_run():
    graph, engine = graph_of()
    out = graph.invoke(TASK, context=Context(max_tokens=10))
    assert out["status"] == "out_of_budget"
    assert len(engine.requests) == 1 and engine.requests[0].sampling.max_new_tokens == 10


def test_a_question_is_answered_by_its_domains_specialist():
    graph, _ = graph_of(lambda r: "4 + 3 = 7\n#### 7")
    out = graph.invoke({"kind": "reasoning", "problem": "Ann has 4 apples and buys 3. How many apples has she?"})
    assert (out["status"], out["answer"]) == ("answered", "7")
    assert [s["specialist"] for s in out["steps"]] == ["math"]
    law = graph.invoke({"kind": "reasoning", "problem": "Is the defendant liable to the plaintiff under the contract?"})
    assert [s["specialist"] for s in law["steps"]] == ["law"]


def test_choices_are_scored_where_none_is_said():
    graph, _ = graph_of(lambda r: "I would rather not say.")
    out = graph.invoke({"kind": "reasoning", "problem": "Which?", "choices": ["one", "two"]})
    assert out["answer"] in ("A", "B") and out["status"] == "answered"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"problem": "  ", "repo": "x"}, "empty"),
        ({"problem": "x", "kind": "issue"}, "needs its repository"),
        ({"repo": "x"}, "missing"),
        ({"problem": "x", "kind": "poem"}, "kind"),
        ({"problem": "x", "repo": "/no/such/place"}, "/no/such/place"),
    ],
)
def test_a_task_that_cannot_be_done_is_one_line(task, words):
    graph, _ = graph_of()
    with pytest.raises(InputError, match=words) as error:
        graph.invoke(task)
    assert "\n" not in str(error.value)


def test_async_does_the_same_and_streams():
    graph, _ = graph_of()

    async def both():
        out = await graph.ainvoke(TASK)
        events = [e async for e in graph.astream(TASK, stream_mode="custom")]
        return out, events

    out, events = asyncio.run(both())
    sync = graph.invoke(TASK)
    assert out["patch"] == sync["patch"] and out["status"] == "patched_untested"
    kinds = [e["event"] for e in events]
    assert kinds[0] == "route" and kinds[-1] == "outcome"
    assert kinds.count("step_start") == kinds.count("step_end") == 4 and "text" in kinds


def test_it_goes_on_from_a_checkpoint_without_speaking_twice():
    saver = InMemorySaver()
    graph, engine = graph_of(checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}}
    stream = graph.stream(TASK, config, stream_mode="updates", durability="sync")
    for update in stream:
        if "test_reasoning" in update:
            break
    stream.close()
    graph, engine = graph_of(checkpointer=saver)
    assert graph.get_state(config).next
    out = graph.invoke(None, config, durability="sync")
    assert out["status"] == "patched_untested"
    assert [s["specialist"] for s in out["steps"]] == SPEAKERS
    assert len(engine.requests) <= 3


def test_every_key_a_node_returns_is_in_the_state():
    saver = InMemorySaver()
    graph, _ = graph_of(checkpointer=saver)
    seen = set()
    for update in graph.stream(TASK, {"configurable": {"thread_id": "1"}}, stream_mode="updates"):
        for values in update.values():
            seen |= set(values)
    assert seen <= STATE_KEYS


def test_a_foreign_context_means_the_defaults():
    assert Context.of({"a": 1}) == Context() and Context.of(None) == Context()
    graph, _ = graph_of()
    assert graph.invoke(TASK, context={"seed": 3})["status"] == "patched_untested"


def test_the_drawing_names_every_specialist_and_every_way():
    graph, _ = graph_of()
    drawing = graph.get_graph()
    names = set(drawing.nodes)
    assert names >= FIXED_NODES | {s.name for s in Roster.load().specialists}
    edges = {(e.source, e.target) for e in drawing.edges}
    assert {("bug_analysis", "test_reasoning"), ("test_reasoning", "retrieve"), ("retrieve", "code_reading")} <= edges
    assert {("patch_writing", "edit"), ("edit", "check"), ("check", "patch_writing"), ("check", "finish")} <= edges
    assert graph.get_input_jsonschema()["title"] and graph.get_output_jsonschema() and graph.get_context_jsonschema()


def test_a_roster_of_the_users_own(tmp_path):
    own = tmp_path / "roster.yaml"
    own.write_text(
        "specialists:\n- {name: reviewer, domain: review, output: text, reads: [issue, notes], system: You review.}\n"
        "- {name: bug_analysis, max_new_tokens: 7}\n"
        "plans: {issue_without_retrieval: [bug_analysis, reviewer, patch_writing]}\n"
    )
    graph, engine = graph_of(roster=own)
    out = graph.invoke(TASK, context=Context(retrieval="off", max_repairs=0))
    assert [s["specialist"] for s in out["steps"]] == ["bug_analysis", "reviewer", "patch_writing"]
    assert engine.requests[0].sampling.max_new_tokens == 7
    assert out["steps"][1]["decision"]["rule"] == "no_vector"


@pytest.mark.parametrize(
    "text", ["specialists: [{name: x}]", "[]", "plans: {reasoning: [nobody]}", "specialists: [{system: y}]", "a: ["]
)
def test_a_broken_roster_is_one_line(tmp_path, text):
    own = tmp_path / "roster.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError) as error:
        Roster.load(own)
    assert "roster.yaml" in str(error.value) and "\n" not in str(error.value)


def test_the_budget_of_next_step():
    state = {"plan": ["a", "b"], "cursor": 1}
    assert next_step(state) == "b"
    assert next_step({**state, "cursor": 2}) == "finish"
    assert next_step({**state, "status": "out_of_budget"}) == "finish"


def test_two_graphs_share_an_engine_and_a_closed_graph_leaves_it_open():
    engine = ScriptedEngine(speaks)
    first, second = build_graph(engine=engine), build_graph(engine=engine)
    assert first.invoke(TASK)["patch"] == second.invoke(TASK)["patch"]


def test_a_cluster_vector_comes_before_the_domains(vector):
    engine = ScriptedEngine(speaks)
    roster = Roster.load()

    def name(library, cluster):
        steering, _ = resolve_steering(roster["bug_analysis"], library, engine.info, cluster=cluster)
        return steering.components[0].vector if steering else None

    both = {n: vector(n) for n in ("bug_analysis", "django_web", "django_web/bug_analysis")}
    assert name(both, "django_web") == "django_web/bug_analysis"
    del both["django_web/bug_analysis"]
    assert name(both, "django_web") == "django_web"
    assert name(both, "dev_tooling") == name(both, None) == "bug_analysis"
    assert name({}, "django_web") is None


@pytest.mark.parametrize("fields", [{"dose": 0.0}, {"dose": float("nan")}, {"max_repairs": -1}, {"max_second": 3}])
def test_a_context_that_means_nothing_is_refused_where_it_is_said(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Context(**fields)


def test_a_vector_that_exists_nowhere_is_an_error():
    with pytest.raises(InputError, match="has no vector called 'banana'"):
        graph_of()[0].invoke(TASK, context=Context(vector="banana"))


def test_a_domain_that_exists_nowhere_is_an_error(tmp_path):
    from steergraph.engine.local import LocalEngine

    own = tmp_path / "own.yaml"
    own.write_text("specialists:\n  - {name: bug_analysis, domain: nodomain}\n")
    with (
        LocalEngine("pocket") as engine,
        pytest.raises(InputError, match=r"neither a vector nor .* called 'nodomain'"),
    ):
        build_graph(engine=engine, roster=own).invoke(TASK, context=Context(retrieval="off"))


def test_a_parents_context_may_hold_ours():
    class Host(dict):
        pass

    ours = Context(preset="baseline", seed=3)
    assert Context.of(Host(steergraph=ours, user="ann")) is ours
    assert Context.of(Host(steergraph={"seed": 4})) == Context(seed=4)
    assert Context.of(Host(user="ann")) == Context() == Context.of(None)
    with pytest.raises(InputError, match="steergraph: sed"):
        Context.of(Host(steergraph={"sed": 4}))


def test_a_graph_is_built_without_its_model(tmp_path):
    """The model is loaded by the first step that needs it, behind what can be told without it."""
    graph = build_graph(model=str(tmp_path / "none"))
    assert "patch_writing" in graph.get_graph().nodes
    with pytest.raises(InputError, match="nowhere"):
        graph.invoke({"problem": "x", "repo": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="no such model folder"):
        graph.invoke(TASK)
