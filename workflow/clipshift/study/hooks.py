"""What happens between reading the Snakefile and planning, however Snakemake was started.

Snakemake has no such hook: the function of its workflow that builds the plan is wrapped. At that
moment the rules of every module are known, and the settings of the command line are there.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.job_logs import ERROR
from clipshift.study.targets import Names, Product, faults


def around(
    workflow: Any, plan: Callable[[], None], start: Callable[[], None], end: Callable[[bool], None]
) -> None:  # fmt: skip
    """Call functions before the plan is made, before its first job and after its last.

    Args:
        end: gets whether all jobs succeeded.

    Snakemake drops `onstart:`, `onsuccess:` and `onerror:` of a module.
    """
    build, module = workflow._build_dag, not workflow.modifier.is_main_snakefile()

    def checked() -> None:
        try:
            plan()
        except ClipshiftError as error:
            sys.exit(f"{ERROR}{error}")  # Snakemake would add where in the code it was raised
        if module:
            workflow._onstart = _before(start, workflow._onstart)
            workflow._onsuccess = _before(partial(end, True), workflow._onsuccess)
            workflow._onerror = _before(partial(end, False), workflow._onerror)
        build()

    workflow._build_dag = checked


def _before(ours: Callable[[], None], theirs: Callable[[Any], None]) -> Callable[[Any], None]:
    def both(log: Any) -> None:
        ours()
        theirs(log)

    return both


def refuse_colon(checkout: Path) -> None:
    """
    Raises:
        ClipshiftError: jobs could not be told where their code is.
    """
    if os.pathsep in str(checkout):
        raise ClipshiftError(
            f"{checkout}: Python separates folders by {os.pathsep!r}, so that jobs would not find "
            "their code there; rename the folder"
        )


def refuse_prefix(workflow: Any) -> None:
    """Paths in parameters, and those that are written together with others, get no prefix.

    Raises:
        ClipshiftError: the study is a module with `prefix` or `replace_prefix`.
    """
    path = "results/report.html"
    if (moved := str(workflow.modifier.path_modifier.replace_prefix(path))) != path:
        raise ClipshiftError(
            f"a module of clipshift takes no prefix (here {path} would be {moved}): its jobs write "
            "below results/ of the working directory. Leave `prefix` out; a study that is to "
            "lie apart has a run of its own, `snakemake --directory FOLDER ...`"
        )


def set_triggers(workflow: Any, checkout: Path) -> None:
    """What makes a job run again is as in `profiles/default`, also where Snakemake did not read it.

    It looks for that profile beside the main Snakefile: not for a module, and not where the
    command line names another workflow profile. `--rerun-triggers` is left as it is.
    """
    from snakemake.settings.types import RerunTrigger

    settings = workflow.dag_settings
    asked = any(word.startswith("--rerun-trigger") for word in sys.argv)
    if settings.rerun_triggers == RerunTrigger.all() and not asked:
        profile = yaml.safe_load((checkout / "profiles/default/config.yaml").read_text())
        settings.rerun_triggers = RerunTrigger.parse_choices_set(profile["rerun-triggers"])


def check_targets(workflow: Any, checkout: Path, names: Names) -> None:
    """
    Raises:
        ClipshiftError: targets that no rule makes, each with the nearest that one does.
    """
    settings = workflow.dag_settings
    words = [settings.targets, settings.forcerun, settings.until, settings.omit_from]
    rules = {rule.name for rule in workflow.rules}
    asked = [word for some in words for word in sorted(some or ()) if word not in rules]
    own = [rule for rule in workflow.rules if _within(rule.snakefile, checkout)]
    others = [rule for rule in workflow.rules if rule not in own]  # of who uses the study as module
    paths = list(dict.fromkeys(os.path.normpath(word) for word in asked))
    paths = [path for path in paths if not any(rule.is_producer(path) for rule in others)]
    if paths and (found := faults(paths, _products(own), names, rules)):
        raise ClipshiftError("\n".join(found))


def _within(file: Any, folder: Path) -> bool:
    return Path(str(file)).resolve().is_relative_to(folder.resolve())


def _products(rules: Iterable[Any]) -> list[Product]:
    """Outputs, then logs and benchmarks, which are targets as well."""
    return [product for rule in rules for product in _products_of(rule)]


def _products_of(rule: Any) -> Iterator[Product]:
    from snakemake.io import WILDCARD_REGEX, strip_wildcard_constraints

    for file in rule.products():
        constraints = {
            m["name"]: m["constraint"]
            for m in WILDCARD_REGEX.finditer(str(file))
            if m["constraint"]
        }
        yield Product(strip_wildcard_constraints(str(file)), constraints)
