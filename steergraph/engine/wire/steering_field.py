"""The `steering` field of a request in EasySteer's shape, from a `Steering` and back.

Knows that shape: {"vectors": [{"source", "scale", "layers", "normalize", "apply"}], "conflict"}. Knows nothing of HTTP.
`scale` multiplies the direction in the file, so it carries the dose whatever its unit; `normalize` there keeps the
length of the hidden state, which is no unit of ours, and is never asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, FiniteFloat, ValidationError

from steergraph.base.errors import first_problem
from steergraph.base.records import Frozen
from steergraph.engine.protocol import Named
from steergraph.engine.steering.directions import SteeringError, look_up, multiplier
from steergraph.engine.steering.records import Component, Steering

MAX_VECTORS = 256
Window = tuple[int, int | None]


class Apply(Frozen):
    """Where one vector applies; the selectors that our positions can say."""

    prompt: Literal["all"] | None = None
    generation: Literal["all"] | None = None
    prompt_positions: tuple[int, ...] | None = Field(default=None, max_length=1)
    prompt_window: Window | None = None


class VectorSpec(Frozen):
    source: str = Field(min_length=1, max_length=1024)
    scale: FiniteFloat = 1.0
    layers: tuple[int, ...] | None = Field(default=None, min_length=1, max_length=1024)
    normalize: bool = False
    apply: Apply
    algorithm: Literal["direct"] = "direct"
    params: dict[str, Any] = Field(default={}, max_length=0)
    name: str | None = Field(default=None, max_length=1024)


class SteeringSpec(Frozen):
    vectors: tuple[VectorSpec, ...] = Field(min_length=1, max_length=MAX_VECTORS)
    conflict: Literal["priority", "sequential", "error"] = "priority"
    debug: bool = False


def to_spec(steering: Steering, library: Named, source: Callable[[str], str]) -> dict[str, Any]:
    """The field for `steering`; `source(name)` is the server's own name for a vector's file.

    Raises SteeringError for what the shape can't say: ablation, ranges of tokens other than from one to the end.
    """
    entries = []
    for component in steering.components:
        if component.operation != "add":
            raise SteeringError(f"vector {component.vector!r}: a server can only be asked to add it, not to ablate it")
        entries.append(
            {
                "source": source(component.vector),
                "scale": multiplier(
                    look_up(library, component.vector), component.layer, component.alpha, component.unit
                ),
                "layers": [component.layer],
                "normalize": False,
                "apply": _apply(component),
            }
        )
    spec: dict[str, Any] = {"vectors": entries}
    if len(entries) > 1:
        spec["conflict"] = "sequential"  # with the default the first vector at a position is the only one
    return spec


def _apply(component: Component) -> dict[str, Any]:
    positions: object = component.positions
    if positions in ("all", (0, None)):
        return {"prompt": "all", "generation": "all"}
    if positions in ("generated", (-1, None)):
        return {"prompt_positions": [-1], "generation": "all"}
    match positions:
        case (int(start), None) if start < -1:
            return {"prompt_window": [start, None], "generation": "all"}
        case (int(start), int(end)) if start < end < 0:
            return {"prompt_window": [start, end]}
    raise SteeringError(f"vector {component.vector!r}: a server can't be asked to steer positions {positions}")


def parse_spec(content: object) -> SteeringSpec:
    """A field as it came in, checked. Raises SteeringError, one line, for everything that we can't carry out."""
    try:
        spec = SteeringSpec.model_validate(content)
    except ValidationError as error:
        raise SteeringError(f"steering: {first_problem(error)}") from error
    if len(spec.vectors) > 1 and spec.conflict != "sequential":
        raise SteeringError("steering: several vectors add up here; say conflict: sequential")
    if any(vector.normalize for vector in spec.vectors):
        raise SteeringError("steering: normalize is not supported; give the dose by scale alone")
    return spec


def from_spec(spec: SteeringSpec, layers: Mapping[str, tuple[int, ...]], name: Callable[[str], str]) -> Steering:
    """The steering of ours that `spec` asks for. `name(source)` is the vector's name in the library, and `layers` has
    the layers of each. Raises SteeringError as `parse_spec` does."""
    components = []
    for vector in spec.vectors:
        known = name(vector.source)
        for layer in vector.layers or layers[known]:
            try:
                components.append(
                    Component(
                        vector=known,
                        layer=layer,
                        alpha=vector.scale,
                        unit="raw",
                        positions=_positions(vector.apply),  # type: ignore[arg-type]
                    )
                )
            except ValidationError as error:
                raise SteeringError(f"steering: {vector.source}: {first_problem(error)}") from error
    return Steering(components=tuple(components))


def _positions(apply: Apply) -> object:
    selectors = apply.model_dump(exclude_none=True)
    if selectors == {"prompt": "all", "generation": "all"}:
        return "all"
    if selectors == {"prompt_positions": (-1,), "generation": "all"}:
        return "generated"
    window = selectors.pop("prompt_window", None)
    if window is not None and selectors == {"generation": "all"} and window[1] is None:
        return window
    if window is not None and not selectors and window[1] is not None:
        return window
    raise SteeringError(
        "steering: apply is neither everything (prompt and generation: all), nor prompt_positions [-1] or a "
        "prompt_window [start, null] with generation: all, nor a closed prompt_window"
    )
