"""What the nodes of one graph share: the engine, made on first use, its vectors, and the repositories it opened.

Held by the graph it was built for; nothing here is global. Safe to call from several threads.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from steergraph.agents.policy import Policy
from steergraph.agents.router import Router
from steergraph.agents.specialists import Roster
from steergraph.agents.speech.model_settings import ModelSettings
from steergraph.base.errors import InputError
from steergraph.configs import ConfigError
from steergraph.engine.protocol import Engine
from steergraph.repo.repository import Repository
from steergraph.retrieval.retriever import Retriever

Progress = Callable[[str, int, int], None]
"""Called with a domain's name, how many prompts of it are done and how many there are."""


class _Own(NamedTuple):
    """What a user brought."""

    roster: Roster | str | Path | None
    policy: Policy | str | Path | None
    settings: str | Path | None


class _OfModel(NamedTuple):
    settings: ModelSettings
    roster: Roster
    policy: Policy


class Services:
    def __init__(
        self,
        *,
        model: str,
        engine: Engine | None,
        roster: Roster | str | Path | None,
        policy: Policy | str | Path | None,
        retriever: Retriever,
        router: Router,
        settings: str | Path | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self.model = model
        self._own = _Own(roster, policy, settings)
        self.wiring = roster if isinstance(roster, Roster) else Roster.load(roster)
        """The specialists that a graph is built for, before a model's settings say how they speak."""
        if not isinstance(policy, Policy):
            Policy.load(policy)  # a broken file is told before a model is loaded
        self._of_model: _OfModel | None = None
        self.retriever = retriever
        self.router = router
        self.cache_dir = cache_dir
        self._engine = engine
        self._repositories: dict[str, Repository] = {}
        # One lock for each: a clone or an extraction takes minutes, and must not hold up a run that needs neither.
        self._engine_lock, self._vectors_lock, self._repositories_lock = Lock(), Lock(), Lock()
        self._opening: dict[str, Lock] = {}

    @property
    def engine(self) -> Engine:
        """The engine given, or one for `model`, loaded on the first call. Raises InputError where it can't be."""
        if self._engine is not None:
            return self._engine
        with self._engine_lock:
            if self._engine is None:
                from steergraph.engine.opening import open_engine

                self._engine = open_engine(self.model)
            return self._engine

    @property
    def settings(self) -> ModelSettings:
        """How the engine's model is talked to."""
        return self._for_model().settings

    @property
    def roster(self) -> Roster:
        """The specialists as they speak to the engine's model. A `Roster` that was given is taken as it is."""
        return self._for_model().roster

    @property
    def policy(self) -> Policy:
        """The policy for the engine's model. A `Policy` that was given is taken as it is."""
        return self._for_model().policy

    def _for_model(self) -> "_OfModel":
        if self._of_model is None:
            own, settings = self._own, ModelSettings.of(self.engine.info, self._own.settings)
            roster = own.roster if isinstance(own.roster, Roster) else Roster.load(own.roster, settings.roster)
            policy = own.policy if isinstance(own.policy, Policy) else Policy.load(own.policy, settings.policy)
            voices = tuple(s.model_copy(update={"edit_format": settings.edit_format}) for s in roster.specialists)
            if [(s.name, s.output) for s in voices] != [(s.name, s.output) for s in self.wiring.specialists]:
                raise ConfigError("a model's settings may change how specialists speak, not which there are")
            self._of_model = _OfModel(settings, roster.model_copy(update={"specialists": voices}), policy)
        return self._of_model

    def ensure_vectors(self, domains: Iterable[str], progress: Progress | None = None) -> None:
        """Make the vectors of `domains` that the engine lacks, where it is one that can be listened to.

        Raises InputError where a domain has neither a vector nor a contrast set. A server's engine has the vectors that
        it was given: what it lacks the policy says. `progress` is told (name, 0, 0) where a dose is measured.
        """
        from steergraph.engine.local import LocalEngine
        from steergraph.vectors.dose.first import with_doses
        from steergraph.vectors.extract.contrast import has_contrast, packaged_sets
        from steergraph.vectors.extract.first_use import ensure_vectors

        engine = self.engine
        if not isinstance(engine, LocalEngine):
            return
        with self._vectors_lock:
            own = self.roster.contrast_sets
            missing = {d: own.get(d) for d in domains if d not in engine.library}
            for domain in (d for d, path in missing.items() if not path and not has_contrast(d)):
                raise InputError(
                    f"there is neither a vector nor a contrast set called {domain!r}: the packaged sets are "
                    f"{', '.join(packaged_sets())}"
                )
            if missing:
                made = ensure_vectors(engine.loaded, missing, cache_dir=self.cache_dir, progress=progress)

                def measuring(name: str) -> None:
                    if progress:
                        progress(name, 0, 0)

                engine.add_vectors(with_doses(engine, made, cache_dir=self.cache_dir, progress=measuring))

    def repository(self, source: str) -> Repository:
        """The repository at `source`, opened once. Raises InputError where there is none."""
        with self._repositories_lock:
            opening = self._opening.setdefault(source, Lock())
        with opening:  # a clone holds up nobody who works in another repository
            if source not in self._repositories:
                self._repositories[source] = Repository.open(source, cache_dir=self.cache_dir)
            return self._repositories[source]


def require_repo(source: str | None) -> str:
    """`source`, or InputError: an issue can't be solved without its repository."""
    if not source:
        raise InputError("an issue needs its repository: give repo, a path, a bundle or a URL")
    return source
