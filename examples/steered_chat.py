"""A LangChain chat model that is steered call by call: the same question plain, steered and at half the dose.

steergraph models fetch smollm2                     # 98 MB, once
python examples/steered_chat.py
python examples/steered_chat.py pocket              # at once, and in pocket's own small language
python examples/steered_chat.py http://127.0.0.1:8000/v1#smollm2 vectors/   # behind `steergraph serve`
"""

import sys

from langchain_core.runnables import ConfigurableField

from steergraph import InputError, LocalEngine, SteeredChat
from steergraph.vectors.extract.first_use import ensure_vectors

QUESTION = "The total is wrong when the list is empty. Where would you look first?"


def make_chat(arguments: list[str]) -> SteeredChat:
    """Over a server if an address and a folder of vectors are given, else over a model in this process."""
    model, *vectors = arguments or ["smollm2"]
    if model.startswith("http"):
        return SteeredChat(model=model, vectors=vectors[0] if vectors else None, max_tokens=48)
    engine = LocalEngine(model)
    engine.add_vectors(ensure_vectors(engine.loaded, {"bug_analysis": None}))
    return SteeredChat(engine=engine, max_tokens=48)


def main(arguments: list[str]) -> None:
    chat = make_chat(arguments)
    middle = chat.opened().info.n_layers // 2
    steering = {"components": [{"vector": "bug_analysis", "layer": middle, "alpha": 0.4, "unit": "residual"}]}
    steered = chat.bind(steering=steering)
    dosed = chat.configurable_fields(dose=ConfigurableField(id="dose")).bind(steering=steering)
    runs = {
        "plain": chat,
        "steered": steered,
        "half the dose": dosed.with_config(configurable={"dose": 0.5}),
    }
    for name, run in runs.items():
        answer = run.invoke(QUESTION)
        receipt = answer.response_metadata["steering"]
        print(f"--- {name}: {answer.usage_metadata['output_tokens']} tokens")
        if receipt:
            (component,) = receipt["components"]
            where = f"{receipt['prompt_positions']} + {receipt['generated_positions']} positions"
            dose = f"relative dose {component['relative_dose']:.2f}"
            print(f"    {component['vector']} at layer {component['layer']}, {dose}, {where}")
        print(answer.content)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        raise SystemExit(str(error)) from None
