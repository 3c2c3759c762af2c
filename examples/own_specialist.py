"""A specialist of your own, from YAML, without forking.

    python examples/own_specialist.py

`own/roster.yaml` adds `security_review` to the roster and to the plans; `own/security.yaml` is its contrast set. Its
vector is made on first use, at the model's default cell, and cached.
"""

from pathlib import Path

from steergraph import Context, build_graph

HERE = Path(__file__).resolve().parent


def main() -> None:
    graph = build_graph(roster=HERE / "own" / "roster.yaml")
    task = {
        "problem": (HERE / "issues" / "stock.md").read_text(encoding="utf-8"),
        "repo": str(HERE / "pantry.bundle"),
    }
    for event in graph.stream(task, context=Context(retrieval="off", max_repairs=0), stream_mode="custom"):
        if event["event"] == "step_end":
            step = event["step"]
            receipt = step["receipt"]
            what = receipt["components"][0] if receipt else None
            spoken = f"{what['vector']} at layer {what['layer']}" if what else step["decision"]["reason"]
            print(f"{step['specialist']}: {spoken}\n  {step['text']}")


if __name__ == "__main__":
    main()
