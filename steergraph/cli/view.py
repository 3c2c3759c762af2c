"""The live view of a run in a terminal: who speaks, how, what was found, what came of it.

Knows the graph's custom stream events. Text from models and repositories is data: its control codes are made visible
before they reach the terminal, and it is never read as markup.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from steergraph.agents.policy import describe
from steergraph.base.text import harmless

__all__ = ["View", "describe", "harmless"]

_SHOWN_FILES = 5
_LONG_S = 10.0
"""A step that may take longer says how long."""
_ENDS = {"patched": "bold green", "answered": "bold green", "patched_untested": "bold yellow"}


class View:
    """Prints events as they come. `show(event)` for each; the order is the graph's."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._open = False
        self._drawn = 1
        self._speed = 0.0
        """Tokens a second of the last answer that was spoken alone."""
        self.ended = False
        """Whether an outcome was shown."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Print one event; kinds it does not know are passed over."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is None:
            return
        if event["event"] != "text":
            self._close()
        handler(event)

    def line(self, text: str, style: str = "") -> None:
        self.console.print(Text(harmless(text), style=style), soft_wrap=True)

    def _close(self) -> None:
        if self._open:
            self.console.print()
            self._open = False

    def _on_route(self, event: Mapping[str, Any]) -> None:
        cluster = f", cluster {event['cluster']}" if event["cluster"] else ""
        self.line(f"plan  {' > '.join(event['plan'])}   ({event['reason']}{cluster})", "dim")

    def _on_vectors(self, event: Mapping[str, Any]) -> None:
        done, of = event["done"], event["of"]
        if not of:
            self.line(f"vector  {event['domain']}: measuring its dose, once for this model", "dim")
        elif done == of:
            self.line(f"vector  {event['domain']}: ready, from {of} prompts", "dim")
        elif self.console.is_terminal:
            self.console.print(Text(f"vector  {event['domain']}: {done} of {of} prompts", style="dim"), end="\r")

    def _on_step_start(self, event: Mapping[str, Any]) -> None:
        decision = event["decision"]
        attempt = f" (repair {event['attempt']})" if event["attempt"] else ""
        on = decision["mode"] != "off"
        self.line("")
        self.console.print(
            Text.assemble(
                (f"{event['specialist']}{attempt}", "bold"), "  ", (describe(decision), "green" if on else "yellow")
            ),
            soft_wrap=True,
        )
        self.line(f"  because {decision['reason']} [{decision['rule']}]", "dim")
        self._drawn = event.get("candidates", 1)
        if (drawn := self._drawn) > 1:
            without = f"; without {event['left_out']}, which this server does not know" if event.get("left_out") else ""
            self.line(f"  {drawn} answers at once, of which the first is shown{without}", "dim")
        if held_to := event.get("held_to"):
            self.line(f"  held to the grammar of {held_to}", "dim")
        for what in event.get("not_sayable", ()):
            self.line(f"  which leaves out {what}", "yellow")
        if free := event.get("free"):
            self.line(f"  not held to a grammar: {free}", "yellow")
        room = event["room"]
        if self.console.is_terminal and self._speed and room / self._speed > _LONG_S:
            each = (
                " each" if drawn > 1 else ""
            )  # they are spoken side by side, which is slower than one and not by much
            self.line(f"  up to {room} tokens{each}, {room / self._speed:.0f} s at {self._speed:.0f} tokens/s", "dim")
        for cut in event["cut"]:
            self.line(f"  cut {cut['section']} to {cut['kept_characters']} of {cut['of_characters']} characters", "dim")

    def _on_text(self, event: Mapping[str, Any]) -> None:
        if not self._open:
            self.console.print("  ", end="")
            self._open = True
        piece = harmless(event["text"]).replace("\n", "\n  ")
        self.console.print(Text(piece), end="", soft_wrap=True)

    def _on_step_end(self, event: Mapping[str, Any]) -> None:
        step = event["step"]
        tokens, seconds = step["tokens"]["completion"], step["seconds"]
        speed = ""
        if seconds > 0 and tokens:
            speed = f", {tokens / seconds:.0f} tokens/s"
            if self._drawn == 1:  # the seconds of several are shared out evenly, whatever each has said
                self._speed = tokens / seconds
        dose = ""
        if step["receipt"]:
            doses = ", ".join(f"{c['relative_dose']:.2f}" for c in step["receipt"]["components"])
            positions = step["receipt"]["prompt_positions"] + step["receipt"]["generated_positions"]
            dose = f"; {positions} positions steered at {doses} of the residual norm"
        self.line(f"  {step['tokens']['prompt']} + {tokens} tokens{speed}{dose}", "dim")
        if step["left_off"]:
            self.line("  it ran to its limit; what stands behind its last whole sentence is left off", "dim")
        if step["echo"]:
            self.line("  it only says its prompt again, so it is not passed on as a note", "yellow")
        if step["unsure"]:
            self.line(f"  the guard could not ask the unsteered model: {step['unsure']}", "yellow")
        if step["guard"]:
            again = "; once more, unsteered" if self._drawn == 1 else ""  # of several, only where all are refused
            self.line(f"  the guard refused this answer: {step['guard']}{again}", "red")

    def _on_retrieved(self, event: Mapping[str, Any]) -> None:
        self.line("")
        self.console.print(Text("retrieve", style="bold"))
        for ranked in event["ranked"][:_SHOWN_FILES]:
            self.line(f"  {ranked['score']:7.2f}  {ranked['path']}")
        rest = len(event["ranked"]) - _SHOWN_FILES
        if rest > 0:
            self.line(f"           and {rest} more", "dim")
        self.line(f"  {len(event['passages'])} passages, {event['tokens']} of {event['budget']} tokens", "dim")

    def _on_edit(self, event: Mapping[str, Any]) -> None:
        self.line("")
        number = f" of answer {event['candidate'] + 1}" if "candidate" in event else ""
        self.console.print(Text(f"edit{number}", style="bold"))
        for problem in event["problems"]:
            self.line(f"  {problem}", "red")
        for match in event.get("inexact", ()):
            self.line(f"  {match}", "yellow")
        if event["diff"]:
            self.console.print(Syntax(harmless(event["diff"]).rstrip("\n"), "diff", background_color="default"))

    def _on_testing(self, event: Mapping[str, Any]) -> None:
        self.line("")
        self.line(f"test  in the sandbox ({event['sandbox']}): {event['command']}", "bold")

    def _on_tested(self, event: Mapping[str, Any]) -> None:
        run = event["before"]
        if run["useless"]:
            self.line(f"  it can't show the defect, and no patch will count as tested: {run['useless']}", "bold red")
        else:
            self.line(f"  it fails without a patch ({run['seconds']:.1f} s), as it should", "green")
            if run["said"]:
                self.line(f"  {run['said']}", "dim")

    def _on_check(self, event: Mapping[str, Any]) -> None:
        for when in ("before", "after"):
            run = event["tests"][when]
            if run:
                word = "pass" if run["passed"] else "fail"
                self.line(f"  tests {when}: {word} ({run['seconds']:.1f} s)", "green" if run["passed"] else "yellow")
        for problem in event["problems"]:
            self.line(f"  {problem}", "red")
        if event["ok"]:
            self.line("  the patch applies, its files parse", "green")

    def _on_answer(self, event: Mapping[str, Any]) -> None:
        if event["answer"] is not None:
            self.line("")
            self.line(f"answer  {event['answer']}   ({event['how']})", "bold green")

    def _on_outcome(self, event: Mapping[str, Any]) -> None:
        self.ended = True
        style = _ENDS.get(event["status"], "bold red")
        self.line("")
        self.line(f"outcome  {event['status'].replace('_', ' ')}", style)
