"""Tables that people write: predictions, results, lists of URLs, and labels."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.files import read_parquet
from tests.fuzz.reader import MustRefuse, Reader, as_text, cli

csv.field_size_limit(1 << 30)  # of the oracle: no field is too long
MISSING = {"", "nan", "NaN", "None", "null", "NA", "n/a", "NULL", "N/A", "<NA>", "NaT", "NAN"}


def write_rows(folder: Path, stem: str, rows: list[dict[str, Any]]) -> None:
    """Rows as csv, json, jsonl and parquet."""
    with (folder / f"{stem}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / f"{stem}.json").write_text(json.dumps(rows, indent=1))
    (folder / f"{stem}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{stem}.parquet")


def plain_rows(path: Path) -> list[dict[str, Any]]:
    """Rows by Python's csv and json and by pyarrow."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return list(json.loads(text))


class Predictions(Reader):
    """Predictions of a test set in four forms."""

    name = "audit.predictions"
    keys = tuple(f"k{i}" for i in range(8))

    def build(self, folder: Path) -> None:
        rows = [
            {"key": k, "label": f"c{i % 3}", "predicted": f"c{i % 2}"}
            for i, k in enumerate(self.keys)
        ]
        write_rows(folder, "p", rows)

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.apps.audit.predictions import read_predictions

        found = {}
        for suffix in ("csv", "json", "jsonl", "parquet"):
            one = read_predictions(folder / f"p.{suffix}", self.keys, None)
            right = zip(one.known.tolist(), one.correct.tolist(), strict=True)
            found[suffix] = [correct if known else None for known, correct in right]
        return found

    def truth(self, folder: Path) -> Any:
        found = {}
        for suffix in ("csv", "json", "jsonl", "parquet"):
            known: dict[str, bool] = {}
            for row in plain_rows(folder / f"p.{suffix}"):
                key, label, predicted = (_text(row.get(c)) for c in ("key", "label", "predicted"))
                if None in (key, label, predicted):
                    continue
                right = label == predicted
                if known.setdefault(str(key), right) != right:
                    raise MustRefuse(f"{key!r} is right and wrong")
            found[suffix] = [known.get(k) for k in self.keys]
        return found


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        raise MustRefuse("a structure")
    if isinstance(value, bytes):
        value = value.decode()
    text = str(value).strip()
    return None if text in MISSING else text.removesuffix(".0")


ACC1 = {
    "imagenet1k": 0.63334, "imagenetv2": 0.5592, "imagenet_sketch": 0.423, "imagenet-r": 0.6932,
}  # fmt: skip


class Results(Reader):
    """`clipshift robustness`: accuracies of models, in the formats of the field."""

    name = "robust.results"

    def build(self, folder: Path) -> None:
        rows = []
        for name, acc1 in ACC1.items():
            rows.append({
                "dataset": name, "model": "m1", "pretrained": "x.pt", "language": "en",
                "task": "zeroshot_classification", "metrics": {"acc1": acc1, "acc5": 0.9},
            })  # fmt: skip
            (folder / f"{name}.json").write_text(json.dumps(rows[-1], indent=1))
        flat = [{k: r[k] for k in ("dataset", "model", "task", "language")} for r in rows]
        table = [
            r | {"model": "m2", "acc1": a / 2} for r, a in zip(flat, ACC1.values(), strict=True)
        ]
        with (folder / "all.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        lines = [
            {"key": name, "dataset": name, "model": "m3", "metrics": {"acc1": a / 3}}
            for name, a in ACC1.items()
        ]
        (folder / "lines.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.apps.robustness.results import read

        files = sorted(p for p in folder.iterdir() if p.suffix in (".csv", ".json", ".jsonl"))
        table = read(files)
        return {
            f"{model} {axis.name}": value.value
            for model, values in table.values.items()
            for axis, value in values.items()
        }

    def truth(self, folder: Path) -> Any:
        """Every accuracy that any of the files states, whatever its model is called."""
        values: list[float] = []
        for path in sorted(folder.iterdir()):
            if path.suffix == ".csv":
                for row in plain_rows(path):
                    values += [float(row["acc1"])] if row["acc1"] else []
            elif path.suffix in (".json", ".jsonl"):
                entries = plain_rows(path) if path.suffix == ".jsonl" else [
                    json.loads(path.read_bytes().decode("utf-8-sig"))
                ]  # fmt: skip
                for entry in entries:
                    value = entry["metrics"].get("acc1")
                    values += [] if value is None else [float(value)]
        return {"values": values}

    def agrees(self, found: Any, wanted: Any) -> bool:
        """No accuracy comes from elsewhere; each is a fraction."""
        stated = wanted["values"] if "values" in wanted else wanted.values()
        return all(v in stated and 0 <= v <= 1 for v in found.values())


class Urls(Reader):
    """Lists of URLs and captions: csv, tsv and parquet together."""

    name = "urls.list"

    def build(self, folder: Path) -> None:
        rows = [{"url": f"http://x.org/{i}.jpg", "caption": f"a b, {i}"} for i in range(9)]
        with (folder / "a.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["url", "caption"])
            writer.writeheader()
            writer.writerows(rows[:3])
        lines = ["url\tcaption", *("\t".join(r.values()) for r in rows[3:6])]
        (folder / "b.tsv").write_text("\n".join(lines) + "\n")
        pq.write_table(pa.Table.from_pylist(rows[6:]), folder / "c.parquet")

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.urls.listing import write_list

        files = [folder / name for name in ("a.csv", "b.tsv", "c.parquet")]
        write_list("p", files, ("url", "caption"), 2, out / "list.parquet")
        counts = json.loads((out / "list.json").read_text())
        rows = read_parquet(out / "list.parquet").to_pylist()
        found = {r["url"]: r["caption"] for r in rows}
        return {"rows": found, "left_out": sum(counts["rejected"].values()), "in": counts["in"]}

    def truth(self, folder: Path) -> Any:
        texts: list[str] = []
        count = 0
        for name in ("a.csv", "b.tsv"):
            data = (folder / name).read_bytes()
            text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig",
                               "replace")  # fmt: skip
            texts.append(text)
            count += len(text.splitlines())
        rows = pq.read_table(folder / "c.parquet").to_pylist()
        for row in rows:
            texts += [str(row["url"]), str(row["caption"])]
        return {"texts": "\n".join(texts), "parquet": [str(r["url"]).strip() for r in rows]}

    def agrees(self, found: Any, wanted: Any) -> bool:
        """What is listed stands in the files; nothing is missing that is not counted."""
        if "rows" in wanted:
            return bool(found["rows"] == wanted["rows"]) or (
                found["rows"].items() <= wanted["rows"].items()
                and len(found["rows"]) + found["left_out"] >= len(wanted["rows"])
            )
        texts = wanted["texts"]
        there = all(
            url.strip() in texts and all(w in texts for w in caption.split("\\x")[0].split('"'))
            for url, caption in found["rows"].items()
        )
        lost = [
            u for u in wanted["parquet"] if u.startswith("http") and u not in found["rows"]
        ]  # fmt: skip
        return (
            there
            and len(lost) <= found["left_out"]
            and (found["in"] == len(found["rows"]) + found["left_out"])
        )


class Labels(Reader):
    """Two tables of labels, and the agreement of their annotators."""

    name = "labels.agreement"

    def build(self, folder: Path) -> None:
        from clipshift.apps.labelling.table import SCHEMA

        for name, shift in (("ann", 0), ("ben", 1)):
            rows = [
                {"key": f"k{i}", "label": (i + shift * (i % 4 == 0)) % 3, "concept": "c",
                 "source": "s", "annotator": name}
                for i in range(12)
            ]  # fmt: skip
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / f"{name}.parquet")

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.apps.labelling.agreement import agreement
        from clipshift.apps.labelling.table import read_labels

        tables = [read_labels(folder / f"{n}.parquet") for n in ("ann", "ben")]
        agreement(pa.concat_tables(tables))
        rows = [r for table in tables for r in table.to_pylist()]
        return sorted(([r["key"], r["label"], r["annotator"]] for r in rows), key=str)

    def truth(self, folder: Path) -> Any:
        found: list[list[Any]] = []
        for name in ("ann", "ben"):
            table = pq.read_table(folder / f"{name}.parquet")
            table.validate(full=True)
            for row in table.to_pylist():
                one = [row["key"], row["label"], as_text(row.get("annotator"))]
                if isinstance(one[1], bytes | str) and one[1] in ("0", "1", "2", b"0", b"1", b"2"):
                    one[1] = int(one[1])  # a number as text is that number
                if one[0] is None or one[1] not in (0, 1, 2):
                    raise MustRefuse(f"a label that is none: {one}")
                key = as_text(one[0])
                found.append([str(key), int(one[1]), one[2]])
        seen = {(f[0], f[2]) for f in found}
        if len(seen) < len(found) and len({(f[0], f[2], f[1]) for f in found}) > len(seen):
            raise MustRefuse("two labels of one annotator")
        return sorted(found, key=str)

    def agrees(self, found: Any, wanted: Any) -> bool:
        return sorted(found, key=str) == sorted(wanted, key=str)


class Released(Reader):
    """`clipshift released`: labels of published subsets, joined with a pool by URL and text."""

    name = "released.join"
    numbers = range(12)

    def build(self, folder: Path) -> None:
        def url(n: int) -> str:
            return f"https://example.org/{n}.jpg"

        for label, part in (("natural", [0, 1, 2, 3, 4, 5]), ("rendition", [6, 7, 8, 9])):
            path = folder / f"given/{label}/part-0.parquet"
            path.parent.mkdir(parents=True)
            table = {"URL": [url(n) for n in part], "TEXT": [f"text {n}" for n in part]}
            pq.write_table(pa.table(table), path)
        rows = [
            {"key": f"k{n}", "url": url(n), "caption": f"text {n}", "status": "success"}
            for n in self.numbers
        ]
        (folder / "pool").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "pool/00000.parquet")
        (folder / "pool/00000_stats.json").write_text("{}")

    def targets(self, folder: Path) -> list[Path]:
        return sorted(folder.rglob("*.parquet"))

    def read(self, folder: Path, out: Path) -> Any:
        cli("released", folder / "given", "--pool", folder / "pool", "--out", out / "l.parquet",
            "--subset", "natural=natural", "--subset", "rendition=rendition")  # fmt: skip
        return {r["key"]: r["label"] for r in read_parquet(out / "l.parquet").to_pylist()}

    def truth(self, folder: Path) -> Any:
        labels: dict[tuple[str, str], set[int]] = {}
        for number, label in enumerate(("natural", "rendition")):
            for path in sorted((folder / "given" / label).glob("*.parquet")):
                for row in pq.read_table(path).to_pylist():
                    if isinstance(row["URL"], str) and isinstance(row["TEXT"], str):
                        labels.setdefault((row["URL"].strip(), row["TEXT"].strip()), set()).add(
                            number
                        )
        found: dict[str, int] = {}
        seen: set[str] = set()
        for path in sorted((folder / "pool").glob("*.parquet")):
            for row in pq.read_table(path).to_pylist():
                if not isinstance(row["key"], str) or row["status"] != "success":
                    continue
                if row["key"] in seen:
                    raise MustRefuse(f"the key {row['key']!r} occurs twice")
                seen.add(row["key"])
                mine = labels.get((str(row["url"]).strip(), str(row["caption"]).strip()), set())
                if len(mine) == 1:
                    found[row["key"]] = next(iter(mine))
        return found


class Arguments(Reader):
    """Words of the command line: an error is a sentence, whatever the words are."""

    name = "args.words"
    names_input = False

    def build(self, folder: Path) -> None:
        Results().build(folder)
        words = ["robustness", "--results", "all.csv", "lines.jsonl", "--id", "val=63.3%", "--out",
                 "report", "--seed", "1", "--axis", "full", "--space", "probit"]  # fmt: skip
        del words[4:6]  # the files have two models
        (folder / "args.json").write_text(json.dumps(words))

    def targets(self, folder: Path) -> list[Path]:
        return [folder / "args.json"]

    def read(self, folder: Path, out: Path) -> Any:
        words = json.loads((folder / "args.json").read_text())
        os.chdir(folder)
        cli(*words)
        return {"ended": True}

    def truth(self, folder: Path) -> Any:
        return {"ended": True}
