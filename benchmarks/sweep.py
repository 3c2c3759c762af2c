"""The (layer x alpha) grid of first tokens: `first_token_grid` against one steered forward a cell.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py [--quick] [--tokens 128] [--alphas 4] [--layers 12] [--hidden 512]

Both run on the same prompt and are compared cell by cell; rounds are interleaved. The plain way computes the logits of
the last token only, with the dose in a forward hook.
"""

import statistics

import torch
from random_model import interleaved, machine, parser, random_library, random_model, random_tokens, ratio

from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.steering.records import Positions
from steergraph.engine.sweep import first_token_grid
from steergraph.vectors.library import SteeringVector


def cell_by_cell(
    loaded: LoadedModel, prompt: list[int], vector: SteeringVector, alphas: list[float], positions: Positions
) -> torch.Tensor:
    """Log-probabilities [layers, alphas, vocabulary]."""
    ids = torch.tensor([prompt], device=loaded.device)
    found = []
    for index, layer in enumerate(loaded.model.model.layers):
        for alpha in alphas:
            dose = (alpha * vector.directions[index]).to(loaded.device)

            def add(_module: object, _arguments: object, hidden: torch.Tensor, dose: torch.Tensor = dose) -> None:
                (hidden[:, -1:] if positions == "generated" else hidden).add_(dose)

            handle = layer.register_forward_hook(add)
            try:
                with torch.inference_mode():
                    logits = loaded.model(input_ids=ids, logits_to_keep=1, use_cache=False).logits
            finally:
                handle.remove()
            found.append(logits[0, -1].float().log_softmax(dim=-1).cpu())
    return torch.stack(found).view(loaded.info.n_layers, len(alphas), -1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tokens", type=int, default=128)
    options.add_argument("--alphas", type=int, default=4)
    options.add_argument("--positions", nargs="+", choices=("all", "generated"), default=["all", "generated"])
    given = options.parse_args()
    tokens, rounds = (64, 3) if given.quick else (given.tokens, given.rounds)
    loaded = random_model(given.layers, given.hidden, given.device)
    vector, prompt = random_library(loaded, ["v"])["v"], random_tokens(1, tokens)
    alphas = [4.0 * (index - given.alphas / 2) for index in range(given.alphas)]
    cells = given.layers * given.alphas
    print(
        f"{machine(given.device)}; {given.layers} layers, {given.hidden} wide, float32, {tokens} tokens, {cells} cells"
    )
    kept: dict[str, torch.Tensor] = {}
    for positions in given.positions:

        def naive(positions: Positions = positions) -> None:
            kept["naive"] = cell_by_cell(loaded, prompt, vector, alphas, positions)

        def grid(positions: Positions = positions) -> None:
            layers = range(given.layers)
            kept["grid"] = first_token_grid(loaded, [prompt], vector, layers, alphas, positions=positions).logprobs[0]

        grid()
        taken = interleaved({"naive": naive, "grid": grid}, rounds, cpu_time=given.cpu_time)
        apart = (kept["naive"] - kept["grid"]).abs().max().item()
        slow, fast = (statistics.median(taken[name]) for name in ("naive", "grid"))
        print(
            f"positions={positions}: cell by cell {slow:.2f} s, grid {fast:.2f} s, "
            f"{ratio(taken['naive'], taken['grid'])} times faster; largest difference {apart:.1e}"
        )


if __name__ == "__main__":
    main()
