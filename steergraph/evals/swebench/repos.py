"""Where the repository of `owner/name` is: in a folder of clones and bundles, or at a URL made from a template.

Knows names. Opens nothing.
"""

from functools import cached_property
from pathlib import Path

from steergraph.base.errors import InputError
from steergraph.repo.git import redact

GITHUB = "https://github.com/{repo}"


class Repos:
    """`place` is a folder, or a URL with `{repo}`, or `{owner}` and `{name}`, in it; None: GitHub.

    Raises InputError where it is neither.
    """

    def __init__(self, place: str | None = None) -> None:
        self._place = place or GITHUB
        self._folder: Path | None = None
        if "://" in self._place:
            if "{repo}" not in self._place and "{name}" not in self._place:
                raise InputError(f"--repos {redact(self._place)}: a URL needs {{repo}} in it, as in {GITHUB}")
            try:
                self._url("owner/name")
            except (KeyError, IndexError, ValueError) as error:
                raise InputError(f"--repos {redact(self._place)}: only {{repo}}, {{owner}} and {{name}}") from error
        else:
            self._folder = Path(self._place).resolve()
            if not self._folder.is_dir():
                raise InputError(f"--repos {self._place}: no such folder, and not a URL")

    def of(self, repo: str) -> str | None:
        """Path or URL of `owner/name`; None where the folder has none.

        In a folder: owner__name.bundle, owner__name(.git), owner/name(.git), name.bundle, name(.git), the first found.
        """
        if not repo:
            return None
        if self._folder is None:
            return self._url(repo)
        owner, _, name = repo.partition("/")
        for stem in (f"{owner}__{name}", f"{owner}/{name}", name):
            for ending in (".bundle", "", ".git"):
                if (found := self._folder / f"{stem}{ending}").exists():
                    return str(found)
        return None

    @cached_property
    def shown(self) -> str:
        """The place as it may be written down."""
        return redact(self._place) if self._folder is None else str(self._folder)

    def _url(self, repo: str) -> str:
        owner, _, name = repo.partition("/")
        return self._place.format(repo=repo, owner=owner, name=name)
