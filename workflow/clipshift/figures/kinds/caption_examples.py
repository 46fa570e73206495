"""Table: captions of some images, as the corpora have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered, sharded
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import kind
from clipshift.study.config.names import CorpusName
from clipshift.study.config.numbers import Seed
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


@kind(
    "caption_examples",
    section="accuracy",
    caption="Captions of some images of the pool, drawn among those that the first corpus can use. "
    "Empty: the corpus cannot use the image, or reads no caption.",
    drawn=False,
)
class CaptionExamples(FigureBlock):
    """Captions of some images of the pool: one column per corpus."""

    corpora: list[CorpusName] = Field(
        min_length=1, description="Corpora; images are drawn among those that the first can use."
    )
    shown: int = Field(default=10, ge=1, le=1000, description="Number of images.")
    seed: Seed = Field(default=0, description="Seed of the draw.")

    def files(self, at: Layout) -> Files:
        shards = at.shards(at.cfg.pool)
        return {
            "corpora": {
                c: numbered([f"results/corpora/{c}/{at.cfg.pool}/{s}.parquet" for s in shards])
                for c in self.corpora
            }
        }


def rows(block: CaptionExamples, files: Files) -> list[dict[str, Any]]:
    """One row per image, in the order of the draw: the smallest hashes of seed and key."""
    from clipshift.core.database import database, parquet

    tables = [
        parquet([Path(file) for file in sharded(files["corpora"][c])])
        for c in dict.fromkeys(block.corpora)
    ]
    with database() as db:
        db.execute(
            f"CREATE TABLE drawn AS SELECT key FROM {tables[0]} WHERE reason IS NULL "
            "ORDER BY md5(concat($1::VARCHAR, ' ', key)), key LIMIT $2",
            [block.seed, block.shown],
        )
        keys = [key for (key,) in db.execute("SELECT key FROM drawn").fetchall()]
        captions = [
            dict(
                db.execute(
                    f"SELECT key, caption FROM {table} WHERE reason IS NULL "
                    "AND key IN (SELECT key FROM drawn)"
                ).fetchall()
            )
            for table in tables
        ]
    columns = dict(zip(dict.fromkeys(block.corpora), captions, strict=True))
    return [{"key": key} | {c: texts.get(key) for c, texts in columns.items()} for key in keys]


@step(version=1)
def table(block: CaptionExamples, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
