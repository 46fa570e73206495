"""`clipshift label --study`: a data set of a study, labelled into the table that it reads."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipshift.apps.labelling.options import Options
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.study.config.folders import DATA_VARIABLE
from clipshift.study.config.load import load
from clipshift.study.layout.domains import DomainLayout
from clipshift.study.layout.study import Layout


def of_study(options: Options) -> Options:
    """The same labelling with the images, the table and the scores of a study.

    Raises:
        ClipshiftError: the study has no such data set or no table of people's labels; its images
            or scores are not made yet.
    """
    cfg = load(*(options.study or []))
    if cfg.domains is None:
        raise ClipshiftError("--study: the configuration has no block `domains`")
    files = dict.fromkeys(cfg.domains.labels.datasets, cfg.domains.labels.file)
    files |= cfg.domains.benchmarks
    name = options.dataset or next(iter(files))
    if (file := files.get(name)) is None:
        names = ", ".join(n for n, f in files.items() if f) or "none"
        raise ClipshiftError(
            f"--dataset {name}: no table of people's labels is named for it (domains.labels.file, "
            f"domains.benchmarks); data sets with one: {names}"
        )
    os.environ.setdefault(DATA_VARIABLE, cfg.data)
    at = Layout(cfg)
    images = located(at.tars(name), data_folder())
    images = images.parent if images.suffix == ".tar" else images
    if not images.exists():
        raise ClipshiftError(
            f"{images}: the images of {name} are not there; make or download them first"
        )
    scores = _scores(options, DomainLayout(at), name) if _asks_for_scores(options) else {}
    out = located(file, data_folder())
    return replace(options, study=None, dataset=None, images=images, out=out, **scores)


def _asks_for_scores(options: Options) -> bool:
    return options.order in ("highest", "uncertain") and options.scores is None


def _scores(options: Options, dom: DomainLayout, name: str) -> dict[str, Any]:
    """The scores of the study's detector of a domain (`score_column`), and its threshold."""
    assert dom.block is not None
    domain = options.score_column or "rendition"
    classifier = dom.block.detectors.get(domain)
    if classifier is None:
        names = ", ".join(dom.block.detectors)
        raise ClipshiftError(f"--score-column {domain}: with --study give one of {names}")
    scores, points = Path(dom.scores(classifier, name)[0]).parent, Path(dom.point(classifier))
    if not (scores.exists() and points.exists()):
        raise ClipshiftError(
            f"{scores}: the study has not scored {name} yet; run it first, or leave --order out"
        )
    threshold = read_json(points)["domains"][domain]["threshold"]
    least = (threshold or 0.0) if options.order == "uncertain" else 0.0
    return {"scores": scores, "score_column": domain, "threshold": least}
