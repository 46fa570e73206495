"""Start Snakemake: with this checkout's Snakefile, code and profile, from any folder."""

import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from clipshift.core.errors import ClipshiftError
from clipshift.core.step import ROOT
from clipshift.core.yaml_file import read_yaml
from clipshift.study.invoke import ask, environment
from clipshift.study.last_run import Run, read

STEP = "clipshift.core.step"
LOCKS = Path(".snakemake/locks")


def profile_folder(name: str) -> Path:
    """A profile of this checkout, or the user's own folder.

    Raises:
        ClipshiftError: neither.
    """
    for folder in (ROOT / "profiles" / name, Path(name)):
        if any(folder.glob("*.yaml")):
            return folder.absolute()
    ours = sorted(p.name for p in (ROOT / "profiles").iterdir() if p.name != "default")
    raise ClipshiftError(
        f"no profile {name!r}: there is {', '.join(ours)}, and any folder with a config.yaml"
    )


def options(
    configfiles: Sequence[Path] = (), profile: str = "local", directory: Path | None = None,
    cores: str | None = None, passed: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Snakemake's options.

    Args:
        cores: None: all, or on a cluster what its profile says.
        passed: further options, as they are.
    """
    folder = profile_folder(profile)
    words = ["--snakefile", str(ROOT / "Snakefile"), "--profile", str(folder)]
    if configfiles:
        for file in configfiles:
            if not file.is_file():
                raise ClipshiftError(f"{file}: no such file; --configfile names a configuration")
            read_yaml(file)  # in our words: Snakemake's are a traceback
        words += ["--configfile", *(str(file.absolute()) for file in configfiles)]
    if directory:
        if directory.exists() and not directory.is_dir():
            raise ClipshiftError(f"--directory {directory} is a file; name a folder")
        words += ["--directory", str(directory.absolute())]
    texts = "".join(file.read_text() for file in folder.glob("*.yaml"))
    if cores or not re.search(r"^executor:", texts, re.MULTILINE):
        words += ["--cores", cores or "all"]
    return [*words, *passed]


def start(words: Sequence[str], origin: Path | None = None) -> None:
    """Become Snakemake: its output, its signals and its exit status are the user's."""
    command = [sys.executable, "-m", "snakemake", *words]
    said = shlex.join(["snakemake", *words])
    print(
        f"cd {shlex.quote(str(origin))} && {said}" if origin else said, file=sys.stderr, flush=True
    )
    if origin:
        os.chdir(origin)
    os.execve(command[0], command, environment())


def holders(folder: Path) -> list[int]:
    """Processes of Snakemake that work in a folder, on this host."""
    return _working(folder, lambda words: any("snakemake" in Path(w).parts[-2:] for w in words[:4]))


def orphans(folder: Path) -> list[int]:
    """Jobs that work in a folder; where Snakemake was killed alone, they go on."""
    return _working(folder, lambda words: STEP in words)


def _working(folder: Path, is_one: Callable[[list[str]], bool]) -> list[int]:
    place, found = folder.resolve(), []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if is_one(words) and Path(process.cwd()) == place and process.pid != os.getpid():
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue  # it ended, or is another user's
    return sorted(found)


def numbers(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids))


def locked(folder: Path) -> bool:
    """Whether a run, or one that was killed, has locked a folder."""
    return any((folder / LOCKS).glob("*.lock"))


def unlock(folder: Path, own: Sequence[str] = ()) -> str:
    """Remove the lock of a run that was killed; returns what was done, for people.

    Args:
        own: options where no run is recorded; they name the study.

    Raises:
        ClipshiftError: the holder lives, or may live on another host.
    """
    if not locked(folder):
        return f"{folder.absolute()}: not locked"
    run = read(folder)
    if alive := holders(folder) or ([run.pid] if run and run.alive() else []):
        raise ClipshiftError(
            f"{folder.absolute()}: Snakemake runs there, as process {numbers(alive)}; "
            "wait until it has ended, or end it with Ctrl-C or `kill`"
        )
    if run and not run.here and run.ended is None:
        raise ClipshiftError(
            f"{folder.absolute()}: process {run.pid} on {run.host} holds the lock, and this is "
            f"{socket.gethostname()}; look there, and where it has ended, "
            f"`rm -r {shlex.quote(str(folder.absolute() / LOCKS))}`"
        )
    words = run.options if run else own
    done = ask(["--unlock", *words], Path(run.origin) if run else None)
    if done.returncode:
        raise ClipshiftError(f"Snakemake's --unlock failed:\n{done.stderr[-2000:]}")
    still = f"; jobs of it go on, as process {numbers(left)}" if (left := orphans(folder)) else ""
    return f"{folder.absolute()}: unlocked{still}"


def last(folder: Path) -> Run:
    """
    Raises:
        ClipshiftError: nothing ran there.
    """
    if run := read(folder):
        return run
    raise ClipshiftError(
        f"{folder.absolute()}: no run of a study is recorded there; `clipshift run` starts one, "
        "and --directory names the folder of another"
    )


def resume(folder: Path) -> None:
    """Unlock the folder where a run was killed, then start that run again."""
    run = last(folder)
    print(unlock(folder), file=sys.stderr)
    again = [] if "--rerun-incomplete" in run.options else ["--rerun-incomplete"]
    start([*again, *run.words()], Path(run.origin))
