"""`clipshift label`: serve the page, or say what a table of labels comes to."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clipshift.apps.labelling import agreement as kappas
from clipshift.apps.labelling.catalogue import Catalogue, open_catalogue
from clipshift.apps.labelling.options import Options
from clipshift.apps.labelling.scores import sort_items
from clipshift.apps.labelling.server import Server, token_of
from clipshift.apps.labelling.store import Store
from clipshift.apps.labelling.study import of_study
from clipshift.apps.labelling.table import consensus, read_all
from clipshift.apps.labelling.views import Views
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json, write_parquet
from clipshift.datasets.select import seeded_order


def label(options: Options) -> None:
    """What the options ask for, of which they hold one."""
    if options.agreement:
        agreement(options.agreement, options.out)
    elif options.consensus:
        write_consensus(options.consensus, options.out, options.ties)
    elif options.study:
        label(of_study(options))
    elif options.images and options.out:
        serve(options, options.images, options.out)


def serve(options: Options, images: Path, out: Path) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    catalogue = open_pool(options, images)
    views = Views(catalogue, Store(out), options.annotators, options.colour)
    server = Server(views, options.host, options.port, token_of(out))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for name in options.annotators:
        more = f"?annotator={quote(name, safe='')}" if len(options.annotators) > 1 else ""
        print(f"{name} labels at {server.url}{more}", flush=True)
    print("every label is saved at once; Ctrl-C ends", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.finish()
        views.store.close()
    print(f"{out}: {len(views.store)} labels")


def open_pool(options: Options, images: Path) -> Catalogue:
    """The images in the page's order; says what was left out."""
    catalogue = open_catalogue(images, options.sample, options.seed)
    step_counts = catalogue.step_counts
    print(f"{images}: {step_counts.came_in} images found, {step_counts.went_out} to label")
    for reason, count in sorted(step_counts.rejected.items()):
        print(f"  {count} left out: {reason}")
    items = catalogue.items
    order = options.order or ("highest" if options.scores else "key")
    if order == "shuffled":
        items = sorted(items, key=lambda item: seeded_order(options.seed, item.key))
    elif options.scores and order != "key":
        least = options.threshold if order == "uncertain" else None
        items, unscored = sort_items(items, options.scores, options.score_column, least)
        print(f"  {order} first by {options.scores}; {unscored} without a score come last")
    return Catalogue(catalogue.root, items, step_counts, catalogue.dataset)


def agreement(paths: Sequence[Path], out: Path | None) -> None:
    """Print the agreement in some tables; with `out`, write it as JSON, too."""
    _refuse_table(out, paths)
    found = kappas.agreement(read_all(paths))
    if out:
        write_json(out, found)
    print("\n".join(kappas.lines(found)))


def write_consensus(paths: Sequence[Path], out: Path | None, ties: str) -> None:
    """Write one label per image."""
    if out is None or out.suffix != ".parquet":
        raise ClipshiftError("--consensus needs --out FILE.parquet, where its labels are written")
    _refuse_table(out, paths)
    labels = read_all(paths)
    made = consensus(labels, ties)
    write_parquet(out, made.table)
    print(f"{out}: {len(made.table)} labels")
    for how, count in sorted(made.counts.items()):
        print(f"  {count} by: {how}")
    if made.ties:
        named = ", ".join(made.ties[:5]) + (" ..." if len(made.ties) > 5 else "")
        print(f"  ties ({'label ambiguous' if ties == 'ambiguous' else 'left out'}): {named}")


def _refuse_table(out: Path | None, paths: Sequence[Path]) -> None:
    if out and out.exists() and any(path.exists() and out.samefile(path) for path in paths):
        raise ClipshiftError(f"--out {out} is the table itself; give another file")


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
