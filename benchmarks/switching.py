"""Several specialists on several issues, each switched on for its own step: the engine against one generate a step.

    python benchmarks/switching.py [--quick] [--issues 6 32] [--device cuda]

Every issue is worked on by three specialists, 64 greedy tokens each. A specialist's prompt is the issue and a closing
question of its own; its vector is switched on from the last prompt token on (`generated`), and once also from the first
(`all`), where no prompt can be shared. The plain way is transformers' `generate` for one step after the other, with a
forward hook that adds the vector and the prompt computed each time; where the vector starts costs it nothing. The
engine gets the issues as concurrent tasks, each of which asks its specialists one after the other, as a graph does; and
once all steps at the same time.
"""

import asyncio
from collections.abc import Callable

import torch
from random_model import interleaved, machine, parser, random_library, random_model, random_tokens, ratio

from steergraph.engine.loading.models import LoadedModel
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Completion, Request, Sampling
from steergraph.engine.steering.records import Component, Positions, Steering

SPECIALISTS = ("a", "b", "c")
ARMS = ("engine", "all steps at once", "no reuse", "from the first token")
ALPHA = 4.0
Tokens = dict[tuple[int, str], tuple[int, ...]]


class Study:
    def __init__(self, loaded: LoadedModel, issues: int, prompt: int, question: int, tokens: int) -> None:
        self.loaded, self.tokens, self.layer = loaded, tokens, loaded.info.n_layers // 2
        self.library = random_library(loaded, SPECIALISTS)
        texts = [random_tokens(100 + issue, prompt) for issue in range(issues)]
        asks = {name: random_tokens(seed, question) for seed, name in enumerate(SPECIALISTS)}
        self.issues = range(issues)
        self.prompts = {(issue, name): texts[issue] + asks[name] for issue in self.issues for name in SPECIALISTS}

    def plain(self, positions: Positions) -> Tokens:
        """One generate a step."""
        layer = self.loaded.model.model.layers[self.layer]
        said = {}
        for (issue, name), prompt in self.prompts.items():
            vector = (ALPHA * self.library[name].directions[self.layer]).to(self.loaded.device)

            def add(_module: object, _arguments: object, hidden: torch.Tensor, vector: torch.Tensor = vector) -> None:
                (hidden[:, -1:] if positions == "generated" else hidden).add_(vector)

            handle = layer.register_forward_hook(add)
            try:
                ids = torch.tensor([prompt], device=self.loaded.device)
                with torch.inference_mode():
                    out = self.loaded.model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=self.tokens,
                        do_sample=False,
                        eos_token_id=None,
                        pad_token_id=0,
                    )
            finally:
                handle.remove()
            said[issue, name] = tuple(out[0, len(prompt) :].tolist())
        return said

    def engine(self, positions: Positions, *, at_once: bool = False, **options: int) -> Tokens:
        """The same through an engine that has seen none of it."""
        with LocalEngine(self.loaded, self.library, max_batch=32, **options) as engine:

            async def step(issue: int, name: str) -> Completion:
                component = Component(vector=name, layer=self.layer, alpha=ALPHA, positions=positions)
                request = Request(
                    token_ids=tuple(self.prompts[issue, name]),
                    steering=Steering(components=(component,)),
                    sampling=Sampling(max_new_tokens=self.tokens),
                )
                done: Completion = await engine.submit(request)
                return done

            async def work(issue: int, names: tuple[str, ...]) -> list[Completion]:
                return [await step(issue, name) for name in names]

            async def study() -> Tokens:
                groups = [(name,) for name in SPECIALISTS] if at_once else [SPECIALISTS]
                keys = [(issue, names) for issue in self.issues for names in groups]
                done = await asyncio.gather(*(work(*key) for key in keys))
                return {
                    (issue, name): completion.token_ids
                    for (issue, names), completions in zip(keys, done, strict=True)
                    for name, completion in zip(names, completions, strict=True)
                }

            return asyncio.run(study())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--issues", type=int, nargs="+", default=[6, 32])
    options.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, help="the engine's ways")
    options.add_argument("--prompt", type=int, default=384, help="tokens of an issue")
    options.add_argument("--question", type=int, default=16, help="tokens of a specialist's own")
    options.add_argument("--tokens", type=int, default=64)
    args = options.parse_args()
    if args.quick:
        args.issues, args.rounds, args.prompt, args.tokens = [6], 1, 128, 16
    loaded = random_model(args.layers, args.hidden, args.device)
    print(f"{args.layers} layers x {args.hidden}, {machine(args.device)}")
    print(
        f"{args.prompt} + {args.question} prompt tokens, {args.tokens} new ones; medians of {args.rounds}", flush=True
    )
    for issues in args.issues:
        study = Study(loaded, issues, args.prompt, args.question, args.tokens)
        said: dict[str, Tokens] = {}

        def noted(name: str, work: Callable[[], Tokens], said: dict[str, Tokens] = said) -> Callable[[], None]:
            return lambda: said.update({name: work()})

        works = {
            "plain": noted("plain", lambda s=study: s.plain("generated")),
            "engine": noted("engine", lambda s=study: s.engine("generated")),
            "all steps at once": noted("all steps at once", lambda s=study: s.engine("generated", at_once=True)),
            "no reuse": noted("no reuse", lambda s=study: s.engine("generated", prefix_bytes=0)),
            "from the first token": noted("from the first token", lambda s=study: s.engine("all")),
        }
        works = {name: work for name, work in works.items() if name == "plain" or name in args.arms}
        taken = interleaved(works, args.rounds, cpu_time=args.cpu_time)
        print(f"\n{issues} issues x 3 specialists")
        for name in list(works)[1:]:
            expected = study.plain("all") if name == ARMS[-1] else said["plain"]
            same = sum(expected[key] == said[name][key] for key in expected)
            print(f"  plain / {name}: {ratio(taken['plain'], taken[name])}", end="; ")
            print(f"the same tokens in {same} of {3 * issues} answers", flush=True)


if __name__ == "__main__":
    main()
