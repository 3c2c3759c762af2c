"""A LangChain chat model that is steered call by call: the same question plain, steered and at half the dose.

python examples/steered_chat.py
python examples/steered_chat.py http://127.0.0.1:8000/v1#pocket vectors/   # behind `steergraph serve`
"""

import sys

from langchain_core.runnables import ConfigurableField

from steergraph import LocalEngine, SteeredChat
from steergraph.vectors.extract.first_use import ensure_vectors

QUESTION = "The total is wrong when the list is empty. Where would you look first?"
STEERING = {"components": [{"vector": "bug_analysis", "layer": 6, "alpha": 0.4, "unit": "residual"}]}


def make_chat(arguments: list[str]) -> SteeredChat:
    """Over a server if an address and a folder of vectors are given, else over pocket in this process."""
    if arguments:
        return SteeredChat(model=arguments[0], vectors=arguments[1] if len(arguments) > 1 else None, max_tokens=48)
    engine = LocalEngine("pocket")
    engine.add_vectors(ensure_vectors(engine.loaded, {"bug_analysis": None}))
    return SteeredChat(engine=engine, max_tokens=48)


def main(arguments: list[str]) -> None:
    chat = make_chat(arguments)
    steered = chat.bind(steering=STEERING)
    dosed = chat.configurable_fields(dose=ConfigurableField(id="dose")).bind(steering=STEERING)
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
    main(sys.argv[1:])
