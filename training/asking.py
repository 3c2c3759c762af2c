"""Measure how a model is asked for edits: `python -m training.asking --model coder [--n 10] [--settings FILE]`.

Generated repairs that pocket's training never drew, put to any model as the graph puts an issue to it: the words, the
edit format, the grammar, the temperatures and the penalty of its settings, or of a page laid over them. Of each the
greedy answer and `--samples` drawn ones, in one batch. Reported are the shares

- of answers that are patches (`applies`), of the file that is to be repaired (`right_file`), that change nothing
  (`copies`), that repair (`repaired`);
- of repairs that the greedy answer repairs (`greedy`), that one of the answers does (`any`), and that are repaired by
  the first answer to pass the visible call, which is what `--candidates` takes (`chosen`).

With `--among TOKENS` the files of other repairs stand behind the right one, up to so many tokens, as retrieval fills
the room that a page gives it.

What repairs is told by hidden calls, played in the sandbox. This is what settings are chosen on, never the examples.
Knows pocket's corpus, and the graph's turns.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from steergraph.agents.driving import services_of
from steergraph.agents.edits.drafts import Draft, drafted
from steergraph.agents.edits.formats import edit_format
from steergraph.agents.edits.formats.shown import Shown
from steergraph.agents.edits.grammar import edit_grammar
from steergraph.agents.run_config import RunConfig
from steergraph.agents.services import Services
from steergraph.agents.speech.budget import fit
from steergraph.agents.speech.candidates import sampled
from steergraph.agents.speech.turn import sections_of
from steergraph.agents.state import Task
from steergraph.engine.protocol import Engine, Message, Request, Sampling
from steergraph.sandbox.run import Sandbox
from training.corpus.samples import Sample, draw_repair
from training.hidden_tests import can_be_judged, play
from training.measuring import parser_of, report, share_of

_SPLITS = ("seen", "names", "phrasings", "families")
_POOL = 20
"""Repairs whose files stand behind others'."""
_LINES = 60
"""Of the passages together, so that the answers of a whole batch fit."""


class Asked(NamedTuple):
    """A repair, and the repairs whose passages stand behind its own."""

    sample: Sample
    others: tuple[Sample, ...] = ()

    @property
    def context(self) -> str:
        return "\n\n".join(one.sections["context"] for one in (self.sample, *self.others))


def shown_of(asked: Asked) -> Shown:
    """The passages as files that were shown whole."""
    files = {path: text for one in (asked.sample, *asked.others) for path, text in _files(one).items()}
    return Shown(tuple(files), {path: ((1, len(text.split("\n"))),) for path, text in files.items()}, files.get)


def _files(sample: Sample) -> dict[str, str]:
    assert sample.scene is not None
    return {passage.path: "\n".join(passage.lines) + "\n" for passage in sample.scene.passages}


def among(drawn: Sequence[Sample], pool: Sequence[Sample], tokens: int, engine: Engine) -> list[Asked]:
    """Each repair with those of `pool`, in order, whose files have other names, as long as `tokens` hold them all."""
    found = []
    for sample in drawn:
        asked = Asked(sample)
        for other in pool if tokens else ():
            more = Asked(sample, (*asked.others, other))
            if not _files(other).keys() & set(shown_of(asked).paths):
                if engine.count_tokens([Message(role="user", content=more.context)]) > tokens:
                    break
                asked = more
        found.append(asked)
    return found


def repairs(n: int, seed: int) -> list[Sample]:
    """The first `n` repairs that can be judged, are short, and have each file once; from all splits in turn."""
    found: list[Sample] = []
    index = 0
    while len(found) < n:
        sample = draw_repair(seed, index, _SPLITS[index % len(_SPLITS)], False)  # type: ignore[arg-type]
        index += 1
        if sample.scene is None or not can_be_judged(sample):
            continue
        passages = sample.scene.passages
        short = sum(len(passage.lines) for passage in passages) < _LINES
        if short and len({passage.path for passage in passages}) == len(passages):
            found.append(sample)
    return found


def requests_for(services: Services, asked: Asked, samples: int, seed: int) -> list[Request]:
    """The greedy request and `samples` drawn ones, as the graph would make them with these passages found."""
    engine, settings, specialist = services.engine, services.settings, services.roster["patch_writing"]
    found = {"retrieval": {"passages": [{"text": asked.context}]}}
    sections = sections_of(Task(kind="issue", problem=asked.sample.sections["issue"]), found, settings)
    prompt = fit(specialist, sections, engine.count_tokens, engine.info.window)
    held = edit_grammar(settings.edit_format, shown_of(asked)) if settings.constrained else None
    first = Request(
        messages=prompt.messages,
        grammar=held.grammar if held else None,
        stop=() if held else specialist.stop,
        sampling=Sampling(max_new_tokens=prompt.max_new_tokens),
        seed=seed,
    )
    return [first, *(sampled(first, k, settings) for k in range(1, samples + 1))]


def measure(engine: Engine, sandbox: Sandbox, options: argparse.Namespace) -> dict[str, Any]:
    """Shares with their Wilson intervals, and why what is no patch is none."""
    services = services_of(RunConfig(model=options.model, settings=options.settings), engine)
    form, each = edit_format(services.settings.edit_format), options.samples + 1
    drawn = repairs(options.n + _POOL, options.seed)
    asked = among(drawn[: options.n], drawn[options.n :], options.among, engine)
    requests = [requests_for(services, one, options.samples, options.seed) for one in asked]
    answers = engine.generate([request for of_one in requests for request in of_one])
    of_each = [one for one in asked for _ in range(each)]
    drafts = [drafted(answer.text, form, shown_of(one)) for one, answer in zip(of_each, answers, strict=True)]
    passages = [_passage(one.sample, draft) for one, draft in zip(of_each, drafts, strict=True)]
    played = play([one.sample for one in of_each], passages, sandbox)
    groups = [played[at : at + each] for at in range(0, len(played), each)]
    chosen = [next((one for one in group if one.visible), None) for group in groups]
    problems = Counter(problem.partition(":")[0] for draft in drafts for problem in draft.problems[:1])
    return {
        "settings": services.settings.model_dump(mode="json", exclude={"roster", "policy"}),
        "applies": share_of([draft.diff is not None for draft in drafts]),
        "right_file": share_of([passage is not None for passage in passages]),
        "copies": share_of([any("nothing changes" in one for one in draft.problems) for draft in drafts]),
        "repaired": share_of([one.repaired for one in played]),
        "greedy": share_of([group[0].repaired for group in groups]),
        "any": share_of([any(one.repaired for one in group) for group in groups]),
        "chosen": share_of([one is not None and one.repaired for one in chosen]),
        "unfinished": share_of([answer.finish_reason == "length" for answer in answers]),
        "tokens": sum(len(answer.token_ids) for answer in answers),
        "problems": dict(problems.most_common(10)),
    }


def _passage(sample: Sample, draft: Draft) -> list[str] | None:
    """The edited function's passage; None where the draft is no patch of it."""
    assert sample.scene is not None
    text = draft.files.get(sample.scene.passages[sample.scene.target].path) if draft.diff is not None else None
    return None if text is None else text.removesuffix("\n").split("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of("training.asking", __doc__, 77)
    parser.set_defaults(n=10)
    parser.add_argument("--samples", type=int, default=7, help="answers drawn beside the greedy one")
    parser.add_argument("--among", type=int, default=0, metavar="TOKENS", help="with other repairs' files behind")
    parser.add_argument("--settings", help="a page laid over the model's own")
    return report(measure, parser, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
