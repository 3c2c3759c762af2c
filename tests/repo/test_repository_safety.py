"""A hostile repository runs nothing: a marker behind every setting that could start a program stays away."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from git_repos import git, make_repository, snapshot

from steergraph.base.errors import InputError
from steergraph.repo.git import GitError, redact, run_git
from steergraph.repo.mirrors import credential_settings
from steergraph.repo.repository import Repository
from steergraph.repo.sources import Remote, parse_source

HOOKS = (
    "post-checkout", "pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "reference-transaction",
    "post-index-change", "post-merge", "pre-auto-gc", "post-rewrite", "pre-applypatch", "applypatch-msg",
    "fsmonitor-watchman", "update", "pre-receive", "post-update", "push-to-checkout", "sendemail-validate",
)  # fmt: skip
COMMANDS = (
    "core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.pager", "core.editor", "core.askPass",
    "core.alternateRefsCommand", "sequence.editor", "credential.helper", "diff.external", "gpg.program",
    "gpg.ssh.program", "uploadpack.packObjectsHook", "filter.evil.clean", "filter.evil.smudge", "filter.evil.process",
    "diff.evil.command", "diff.evil.textconv", "merge.evil.driver", "remote.origin.uploadpack", "remote.origin.proxy",
    "pager.log", "pager.status", "interactive.diffFilter", "trailer.sign.command", "browser.evil.cmd",
)  # fmt: skip
ALIASES = ("ls-tree", "cat-file", "rev-parse", "fetch", "apply", "config", "init")


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


@pytest.fixture
def hostile(tmp_path, marker):
    """A repository whose configuration, hooks, attributes and submodules all name a script that writes the marker."""
    script = tmp_path / "evil.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {marker}\ncat\n')
    script.chmod(0o755)
    where = tmp_path / "hostile"
    base, _ = make_repository(
        where,
        {
            "a.py": "x = 1\n",
            "b.py": "def f():\n    return 1\n",
            ".gitattributes": "* filter=evil diff=evil merge=evil\n"
            "*.py text eol=crlf ident working-tree-encoding=UTF-16\n",
            ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = ext::{script}\n\tupdate = !{script}\n',
        },
        {"later.py": "secret = 1\n"},
    )
    (where / ".git" / "info" / "attributes").unlink()
    for folder in (where / ".git" / "hooks", tmp_path / "hooks"):
        folder.mkdir(exist_ok=True)
        for hook in HOOKS:
            shutil.copy(script, folder / hook)
    included = tmp_path / "included"
    included.write_text(f'[core]\n\tfsmonitor = {script}\n[filter "evil"]\n\tsmudge = {script}\n\trequired = true\n')
    config = where / ".git" / "config"
    for name in COMMANDS:
        git(where, "config", "--file", str(config), name, str(script))
    for alias in ALIASES:
        git(where, "config", "--file", str(config), f"alias.{alias}", f"!{script}")
    for name, value in {
        "core.hooksPath": str(tmp_path / "hooks"),
        "core.attributesFile": str(tmp_path / "attributes"),
        "core.worktree": str(tmp_path / "elsewhere"),
        "include.path": str(included),
        "filter.evil.required": "true",
        "log.showSignature": "true",
        "remote.origin.url": f"ext::{script}",
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "protocol.ext.allow": "always",
        "safe.directory": "*",
    }.items():
        git(where, "config", "--file", str(config), name, value)
    (tmp_path / "elsewhere").mkdir()
    assert not marker.exists()
    return where, base


def use(repository: Repository, base: str, into: Path) -> None:
    """Everything a run does with a repository."""
    assert repository.resolve(base) == base
    repository.resolve("main")
    repository.resolve("HEAD~1")
    assert {"a.py", "b.py"} <= {entry.path for entry in repository.files(base)}
    assert repository.read_text(base, "a.py") == "x = 1\n"
    commit = repository.repo.commit(base)
    assert (commit.tree / "a.py").data_stream.read() == b"x = 1\n"
    assert base in [each.hexsha for each in repository.repo.iter_commits("main")]
    with repository.working_copy(base, into) as copy:
        assert (copy.path / "a.py").read_bytes() == b"x = 1\n"
        assert copy.git("status", "--porcelain") == b""
        diff = b"--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
        copy.git("apply", "--check", input=diff)
        copy.git("apply", "--index", input=diff)
        assert b"+x = 2" in copy.git("diff", "--cached")
        copy.git("add", "-A")
        copy.git("log", "-p")


def test_nothing_a_configuration_names_is_run_and_nothing_is_written(hostile, marker, tmp_path):
    where, base = hostile
    before = snapshot(where)
    use(Repository.open(where), base, tmp_path / "copy")
    assert not marker.exists(), marker.read_text()
    assert snapshot(where) == before


def test_plain_git_does_run_it(hostile, marker, tmp_path):
    """The trap is real: what the test above proves, it proves about something that fires."""
    where, _ = hostile
    subprocess.run(
        ["git", "--git-dir", str(where / ".git"), "--work-tree", str(where), "status"],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
    )
    assert marker.exists()


@pytest.mark.parametrize("form", ["bare", "worktree", "gitfile", "bundle", "file-url"])
def test_other_forms_of_the_same_repository(hostile, marker, tmp_path, form):
    where, base = hostile
    source: Path | str = tmp_path / "other"
    if form == "bare":
        shutil.copytree(where / ".git", source)
    elif form == "gitfile":
        Path(source).mkdir()
        (Path(source) / ".git").write_text(f"gitdir: {where / '.git'}\n")
    elif form == "worktree":
        admin = where / ".git" / "worktrees" / "other"
        admin.mkdir(parents=True)
        (admin / "HEAD").write_text(f"{base}\n")
        (admin / "commondir").write_text("../..\n")
        (admin / "gitdir").write_text(f"{source}/.git\n")
        Path(source).mkdir()
        (Path(source) / ".git").write_text(f"gitdir: {admin}\n")
    elif form == "bundle":
        bare = tmp_path / "clean.git"
        run_git(["clone", "-q", "--bare", "--no-local", str(where), str(bare)], tmp_path, protocols=["file"])
        source = tmp_path / "b.bundle"
        run_git(["bundle", "create", "-q", str(source), "--all", "HEAD"], bare)
        assert not marker.exists()
    else:
        source = f"file://{where}"
    repository = Repository.open(source, cache_dir=tmp_path / "cache")
    if form == "worktree":
        assert repository.resolve(None) == base
        assert repository.resolve("main") != base
    else:
        use(repository, base, tmp_path / "copy")
    assert not marker.exists()


def test_the_callers_environment_is_not_handed_on(hostile, marker, tmp_path, monkeypatch):
    where, base = hostile
    script = str(tmp_path / "evil.sh")
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    for config in (home / ".gitconfig", home / ".config" / "git" / "config"):
        config.write_text(f"[core]\n\tfsmonitor = {script}\n\thooksPath = {tmp_path / 'hooks'}\n")
    for name, value in {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_DIR": str(where / ".git"),
        "GIT_WORK_TREE": str(where),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": script,
        "GIT_EXTERNAL_DIFF": script,
        "GIT_SSH_COMMAND": script,
        "GIT_PROXY_COMMAND": script,
        "GIT_ASKPASS": script,
        "GIT_EDITOR": script,
        "GIT_PAGER": script,
        "GIT_EXEC_PATH": str(tmp_path),
        "GIT_TEMPLATE_DIR": str(where / ".git"),
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_TRACE2": str(tmp_path / "trace2"),
        "GIT_ALLOW_PROTOCOL": "ext",
    }.items():
        monkeypatch.setenv(name, value)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(where / ".git", other / ".git")
    use(Repository.open(other), base, tmp_path / "copy")
    assert not marker.exists()
    assert not (tmp_path / "trace").exists() and not (tmp_path / "trace2").exists()


def test_a_git_beside_the_repository_is_not_run(tmp_path, monkeypatch, marker):
    where = tmp_path / "r"
    make_repository(where, {"a": "1", "git": f"#!/bin/sh\ntouch {marker}\n"})
    (where / "git").chmod(0o755)
    monkeypatch.chdir(where)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    with Repository.open(where) as repository, repository.working_copy("HEAD", tmp_path / "copy") as copy:
        copy.git("status")
    assert not marker.exists()


def test_what_was_planted_in_a_working_copy_is_put_back(hostile, marker, tmp_path):
    """A test that ran in the copy may have rewritten its `.git`."""
    where, base = hostile
    later = Repository.open(where).resolve("main")
    with Repository.open(where).working_copy(base, tmp_path / "copy") as copy:
        git_dir = copy.path / ".git"
        shutil.copy(where / ".git" / "config", git_dir / "config")
        shutil.rmtree(git_dir / "info")
        (git_dir / "info").mkdir()
        (git_dir / "info" / "attributes").write_text("* filter=evil diff=evil\n")
        (git_dir / "hooks").mkdir()
        shutil.copy(tmp_path / "evil.sh", git_dir / "hooks" / "post-index-change")
        (git_dir / "objects" / "info").mkdir(exist_ok=True)
        (git_dir / "objects" / "info" / "alternates").write_text(f"{where}/.git/objects\n")
        (git_dir / "commondir").write_text(str(where / ".git"))
        (copy.path / "a.py").write_text("x = 3\n")
        assert copy.git("status", "--porcelain") == b" M a.py\n"
        copy.git("diff")
        copy.git("add", "-A")
        with pytest.raises(GitError):
            copy.git("cat-file", "-e", later)
        shutil.move(git_dir, tmp_path / "moved")
        git_dir.symlink_to(where / ".git")
        with pytest.raises(GitError, match="was replaced"):
            copy.git("status")
    assert not marker.exists()
    assert (where / ".git" / "HEAD").exists()


def test_a_missing_object_is_an_error_and_no_fetch(tmp_path, marker):
    where = tmp_path / "r"
    base, later = make_repository(where, {"a.py": "x = 1\n", "b.py": "gone\n"}, {"c.py": "c\n"})
    blob = git(where, "rev-parse", f"{base}:b.py")
    (where / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    for name, value in {
        "remote.origin.url": str(tmp_path / "nowhere"),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(script),
        "extensions.partialClone": "origin",
        "core.repositoryformatversion": "1",
    }.items():
        git(where, "config", name, value)
    repository = Repository.open(where)
    assert repository.read(base, "b.py").text is None and "missing" in (repository.read(base, "b.py").reason or "")
    assert repository.read_text(base, "a.py") == "x = 1\n"
    with pytest.raises(InputError, match=blob):
        repository.read_bytes(base, "b.py")
    with pytest.raises(InputError, match="missing"):
        repository.working_copy(later, tmp_path / "copy")
    assert not (tmp_path / "copy").exists() and not marker.exists()


BAD_SOURCES = {
    "": "was named",
    "-": "cannot start with `-`",
    "--upload-pack=touch pwned": "cannot start with `-`",
    "ext::sh -c touch% pwned": "runs commands",
    "fd::17/x": "runs commands",
    "transport::https://example.org/x": "runs commands",
    "::x": "runs commands",
    "http://example.org/x": "only",
    "ftp://example.org/x": "only",
    "rsync://example.org/x": "only",
    "https://exa mple.org/x": "white space",
    "https://example.org/x y": "white space",
    "https://example.org/x\n--upload-pack=y": "line breaks",
    "a\x1b[31mb": "control characters",
    "https:///x": "host",
    "https://-oProxyCommand=x/y": "host",
    "ssh://-oProxyCommand=touch/x": "host",
    "ssh://-o@example.org/x": "plain user",
    "ssh://git:pw@example.org/x": "no password",
    "ssh://example.org/--upload-pack=x": "starts with `-`",
    "https://example.org": "path",
    "https://example.org/x?private_token=s3cret": "no \\?",
    "https://u:s3/cret@example.org/x": "cannot be read|can be read",
    "https://u:s3cret@exa_mple.org/x": "host",
    "git://u:s3cret@example.org/x": "no users",
    "file://example.org/x": "three slashes",
    "git@example.org:x/y.git": "ssh://user@host/path",
    "no/such/folder": "no such",
    "nul\0byte": "control characters",
    "~nobody-at-all/x": "cannot look",
}


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_bad_sources_are_refused_in_one_line_without_secrets(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=BAD_SOURCES[source]) as caught:
        Repository.open(source, cache_dir=tmp_path / "cache")
    said = str(caught.value)
    assert "\n" not in said and "\x1b" not in said and "s3cret" not in said and "s3/cret" not in said
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, plain",
    [
        ("https://user:pw@host/x", "https://host/x"),
        ("https://token@host:1/x", "https://host:1/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://git:pw@host/x", "ssh://git@host/x"),
        ("https://a:p@w@host/x", "https://host/x"),
        ("fatal: unable to access 'https://u:p@host/x/': no", "fatal: unable to access 'https://host/x/': no"),
        ("run --repo https://u:p@h/x --issue 'mail a@b.c'", "run --repo https://h/x --issue 'mail a@b.c'"),
        ("https://h/x?access_token=abc&y=1", "https://h/x?access_token=***&y=1"),
        ("see https://h/x@v1", "see https://h/x@v1"),
    ],
)
def test_redact(text, plain):
    assert redact(text) == plain


def test_credentials_stay_out_of_everything_but_gits_environment(tmp_path, caplog):
    source = parse_source("https://user:s3cret%40x@localhost:1/owner/name.git")
    assert isinstance(source, Remote) and (source.username, source.password) == ("user", "s3cret@x")
    assert "s3cret" not in repr(source) + str(source) + source.url
    assert "s3cret" not in str(credential_settings(source)) and "user:" not in str(credential_settings(source))
    with pytest.raises(InputError) as caught:
        Repository.open("https://user:s3cret%40x@localhost:1/owner/name.git", cache_dir=tmp_path)
    assert "s3cret" not in str(caught.value) + caplog.text and "https://localhost:1/owner/name.git" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(b"s3cret" not in path.read_bytes() for path in left) and not list(tmp_path.rglob("*.git"))


@pytest.mark.parametrize("host, given", [("localhost:1", True), ("localhost:2", False), ("example.org", False)])
def test_credentials_are_given_to_their_own_host_only(host, given):
    source = parse_source("https://user:s3cret@localhost:1/x")
    assert isinstance(source, Remote)
    environment = {"STEERGRAPH_USERNAME": source.username, "STEERGRAPH_PASSWORD": source.password}
    asked = f"protocol=https\nhost={host}\n\n".encode()
    try:
        said = run_git(
            ["credential", "fill"], input=asked, settings=credential_settings(source), environment=environment
        )
    except GitError:
        said = b""
    assert (b"password=s3cret" in said) is given


def test_git_that_takes_too_long_is_stopped():
    with pytest.raises(GitError, match="longer than"):
        run_git(["hash-object", "--stdin-paths"], input=None, timeout=1e-4)


def test_no_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="not installed"):
        run_git(["version"])
