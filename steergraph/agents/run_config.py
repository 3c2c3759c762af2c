"""Everything a run is told, once. Its flags, the graph's `context_schema` and run.json are views of it.

A new option is a field of `Context` (what may change from run to run of one graph) or of `RunConfig` (what a graph is
built of), with a `Flag` that says which commands have it; nothing else needs to know it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, FiniteFloat, ValidationError
from pydantic.fields import FieldInfo

from steergraph.agents.policy import Axes, Axis, Policy, RouterName
from steergraph.base.errors import InputError, first_problem
from steergraph.base.records import Frozen
from steergraph.engine.protocol import WeightType
from steergraph.retrieval import Ranker

Command = Literal["run", "ask", "bench"]
"""The commands that are told how a run goes; `bench` is `bench swebench`."""
BOTH: tuple[Command, ...] = ("run", "ask")
ISSUES: tuple[Command, ...] = ("run", "bench")
ALL: tuple[Command, ...] = ("run", "ask", "bench")

Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Candidates = Annotated[int, Field(ge=1, le=64)]
Switch = Literal["on", "off"]


def _not_zero(dose: float) -> float:
    if dose == 0:
        raise ValueError('0 steers nothing; say steering="none"')
    return dose


def _not_blank(command: str) -> str:
    if not command.strip():
        raise ValueError("the command is empty; leave it out for no test")
    return command


class Flag(NamedTuple):
    """Beside a field's type: which commands have it as an option, `--max-seconds` for `max_seconds`, and its help."""

    commands: tuple[Command, ...]
    help: str = ""
    metavar: str | None = None


class Context(Frozen):
    """How a run is to go: JSON-only, every field with a default. `None` leaves an axis to the preset; 0 is no limit.

    The graph's `context_schema`. A host's own context object, or none, is accepted: it then runs with the defaults.
    """

    preset: Annotated[str, Flag(BOTH, "auto, baseline, static, dynamic, rag_*")] = "auto"
    steering: Annotated[Axis | None, Flag(BOTH, "replaces the preset's")] = None
    retrieval: Annotated[Switch | None, Flag(BOTH, "replaces the preset's")] = None
    gate: Annotated[Switch | None, Flag(BOTH, "replaces the preset's")] = None
    test: Annotated[
        Annotated[str, AfterValidator(_not_blank)] | None,
        Flag(ISSUES, "shows the defect; run in the sandbox before and after each patch", "CMD"),
    ] = None
    """Shell command that tests the repository, run before and after in the sandbox."""
    unsafe_tests: Annotated[bool, Flag(ISSUES, "run it with limits only where no sandbox can be had")] = False
    """Run it with limits only where no sandbox can be had."""
    test_seconds: Annotated[Amount, Flag(("bench",), "for one test run", "S")] = 120.0
    max_seconds: Annotated[Amount, Flag(ALL, "for each task; 0: no limit", "S")] = 0.0
    max_tokens: Annotated[Count, Flag(ALL, "completion tokens of each task; 0: no limit", "N")] = 0
    """Completion tokens of all steps together."""
    max_repairs: Annotated[Count | None, Flag(ALL, "repair rounds (default: 3)", "N")] = None
    """None: the policy's."""
    seed: Annotated[int, Flag(ALL)] = 0
    thinking: Annotated[bool, Flag(ALL, "let the model think before it answers")] = False
    temperature: Amount = 0.0
    """Of every step that is no repair, which has the policy's. With more than 0, top_p is the policy's too."""
    candidates: Annotated[
        Candidates, Flag(ISSUES, "edits drawn at once for each patch; the first that passes wins", "N")
    ] = 1
    """Edits that a specialist draws at once, the first as it would draw one, the others sampled."""
    dose: Annotated[FiniteFloat, AfterValidator(_not_zero)] = 1.0
    """Factor on every steering's alpha; not 0, which is `steering="none"`."""
    vector: Annotated[str, Field(min_length=1)] | None = None
    """A domain whose vector every specialist speaks with, instead of its own; None: each with its own."""

    @classmethod
    def of(cls, given: Any) -> "Context":
        """`given` where it is a Context. A parent graph's own context, a mapping or an object, may hold one (or its
        fields) under `steergraph`; nothing else of it means anything here.

        Raises InputError for fields that are none.
        """
        if isinstance(given, Context):
            return given
        inner = given.get("steergraph") if isinstance(given, Mapping) else getattr(given, "steergraph", None)
        if inner is None or isinstance(inner, Context):
            return inner or cls()
        try:
            return cls.model_validate(inner)
        except ValidationError as error:
            raise InputError(f"the context's steergraph: {first_problem(error)}") from error

    def axes(self, policy: Policy) -> Axes:
        """The preset's axes, with those that are set by name. Raises InputError for a preset that is not there."""
        on = {"on": True, "off": False, None: None}
        return policy.axes(self.preset, self.steering, on[self.retrieval], on[self.gate])

    @property
    def arm(self) -> str:
        """A name for these settings: the preset, and each axis that was given by itself."""
        axes = {axis: getattr(self, axis) for axis in ("steering", "retrieval", "gate")}
        return "-".join([self.preset, *(f"{axis}_{value}" for axis, value in axes.items() if value is not None)])


class RunConfig(Context):
    """A run's context, and the model, files, router and ranker that its graph is built of."""

    model: Annotated[
        str, Flag(ALL, "pocket, a Hugging Face id, a folder, a .gguf file, or http://HOST:PORT/v1#NAME")
    ] = "pocket"
    weights: Annotated[
        WeightType, Flag(ALL, "how they are held; auto on a processor: float16 where it is quicker, else float32")
    ] = "auto"
    roster: Annotated[str | None, Flag(ALL, "specialists of your own, laid over the packaged ones", "FILE")] = None
    vectors: Annotated[str | None, Flag(ALL, "a folder of vectors to speak with", "DIR")] = None
    policy: Annotated[str | None, Flag(ALL, "a policy of your own, laid over the packaged one", "FILE")] = None
    settings: Annotated[str | None, Flag(ALL, "model settings of your own, laid over the model's page", "FILE")] = None
    router: Annotated[
        RouterName, Flag(BOTH, "who speaks: by rules, by the model's own word, or by its activations")
    ] = "rules"
    ranker: Annotated[Ranker, Flag(ISSUES, "how files are found: BM25 with fields, or plain rank_bm25")] = "fields"
    require_test: Annotated[bool, Flag(("run",), "a patch that no test vouches for counts as none")] = False
    deterministic: Annotated[bool, Flag(("bench",), "each row alone: slower, and the same every time")] = False

    @classmethod
    def of_record(cls, record: Mapping[str, Any], where: str) -> Self:
        """The configuration that a run.json holds, of this version or an older one: what it does not say has its
        default. Raises InputError naming `where`."""
        context = record.get("context")
        if context is not None and not isinstance(context, Mapping):
            raise InputError(f"{where}: context: not an object")
        said = {**record, **context} if isinstance(context, Mapping) else record
        try:
            return cls.model_validate({name: said[name] for name in cls.model_fields if name in said})
        except ValidationError as error:
            raise InputError(f"{where}: {first_problem(error)}") from error

    def record(self, command: Command) -> dict[str, Any]:
        """What run.json keeps: the fields that `command` can be told."""
        return self.model_dump(mode="json", include=set(flags(type(self), command)))

    def anywhere(self) -> Self:
        """With its paths made absolute: a run may be gone on with from another folder."""
        from steergraph.engine.loading.weights import local_path

        paths = {name: getattr(self, name) for name in ("roster", "vectors", "policy", "settings")}
        absolute = {name: str(Path(path).resolve()) for name, path in paths.items() if path}
        local = local_path(self.model)
        return self.model_copy(update=absolute | ({"model": str(local.resolve())} if local else {}))


def flags(config: type[Frozen], command: Command) -> dict[str, tuple[FieldInfo, Flag]]:
    """The fields of `config` that `command` has as options, in order."""
    found = {}
    for name, field in config.model_fields.items():
        flag = next((one for one in field.metadata if isinstance(one, Flag)), None)
        if flag and command in flag.commands:
            found[name] = field, flag
    return found
