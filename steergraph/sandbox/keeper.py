"""The process between us and a sandboxed command: it ends all that came of it, whatever ends first.

Run as `python -I -c SOURCE CONFIG`, with the configuration as JSON. It writes a line to the pipe `status`, starts
`words`, and waits for their end or for the pipe `alive` to close, which the death of its starter does too. Then it
kills everything that is left, runs the commands `after` (their output goes to `status`), and exits as the command did:
with its status, or 128 + the signal that killed it.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 24, 36, 38
_ROUNDS = 500


def drop_rights(libc: ctypes.CDLL) -> None:
    """What starts from here gets no capability, and no set-uid program counts: for a command without walls."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def collect_orphans(child: int) -> None:
    """Collect what ended and has us for its parent, but not the command."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)


def end_all() -> None:
    """Kill and collect everything below. All are stopped first, so that none can fork while the others die."""
    for _ in range(_ROUNDS):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        import psutil  # only now: most commands leave nothing behind, and it takes a while

        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        time.sleep(0.002)


def main() -> None:
    config = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what loses its parent becomes our child, so that none gets away
    if config["drop_rights"]:
        drop_rights(libc)
    os.write(config["status"], b"\n")
    child = subprocess.Popen(
        config["words"],
        cwd=config["cwd"],
        env=config["env"],
        pass_fds=[config["status"]] if config["tells"] else [],
        stdin=subprocess.DEVNULL,
    )
    handle = os.pidfd_open(child.pid)
    while not select.select([handle, config["alive"]], [], [], 1.0)[0]:
        collect_orphans(child.pid)
    if child.poll() is None:
        child.kill()
    code = child.wait()
    end_all()
    for words in config["after"]:
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=config["status"], stderr=subprocess.DEVNULL, check=False)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
