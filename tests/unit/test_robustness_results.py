"""`clipshift robustness` on files as the tools of the field write them."""

import csv
import json
import os
import random
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clipshift.apps.robustness.report import measured_id
from clipshift.apps.robustness.results import BROKEN, NO_TOP1, OTHER_SET, REPEATED, plain, read
from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, VAL_R
from tests.conftest import ROOT, dump
from tests.unit.mutants import mutant

# As CLIP_benchmark's `main_eval` dumps it, published numbers of OpenAI's ViT-B/32.
ACC1 = {
    "imagenet1k": 0.63334, "imagenetv2": 0.5592, "imagenet_sketch": 0.42303837764546365,
    "imagenet-r": 0.6932, "imagenet-a": 0.3155, "objectnet": 0.4417465274038979,
}  # fmt: skip
EXPECTED_V2 = 5.8


def clip_benchmark(
    folder: Path, dataset: str, acc1: float | None = None, model: str = "my-ViT", **more: Any
) -> Path:
    entry = {
        "dataset": dataset, "model": model, "pretrained": "/checkpoints/mine/epoch_32.pt",
        "task": "zeroshot_classification", "language": "en",
        "metrics": {
            "acc1": ACC1[dataset.removeprefix("wds/")] if acc1 is None else acc1,
            "acc5": 0.9, "mean_per_class_recall": 0.5,
        },
    } | more  # fmt: skip
    slug = dataset.replace("/", "_")
    name = f"{slug}_epoch_32.pt_{model}_{entry['language']}_{entry['task']}.json"
    return dump(folder / name, entry)


def run(*words: str, check: bool = True, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clipshift.apps.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0 or not check, done.stderr
    return done


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "effective_robustness.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_clip_benchmark_files_give_rho_and_a_refusal_with_remedy(tmp_path: Path) -> None:
    files = [clip_benchmark(tmp_path / "in", f"wds/{name}") for name in ACC1]
    done = run("robustness", "--results", *map(str, files), "--out", str(tmp_path / "out"))
    found = {(r["shift"], r["baseline"]): r for r in rows(tmp_path / "out")}
    assert {s for s, _ in found} == {"v2", "sketch", "average"}
    assert {b for _, b in found} == {"standard", "low"}
    assert float(found["v2", "standard"]["rho"]) == pytest.approx(EXPECTED_V2, abs=0.2)
    assert found["v2", "standard"]["model"] == "my-ViT epoch_32.pt"
    for shift, axis in (("r", VAL_R), ("objectnet", SHIFTS["objectnet"].on)):
        assert f"refused: {SHIFTS[shift].title}" in done.stdout
        assert f"--id {axis.name}=" in done.stdout
    step_counts = json.loads((tmp_path / "out/account.json").read_text())
    assert step_counts["in"] == step_counts["out"] == 6
    assert {r["shift"] for r in step_counts["refused"]} == {"r", "a", "objectnet"}
    for kind in ("svg", "pdf"):
        assert (tmp_path / f"out/effective_robustness.{kind}").stat().st_size > 5000


def test_the_class_subset_may_be_given_or_the_full_axis_taken(tmp_path: Path) -> None:
    for name in ("imagenet1k", "imagenet-r"):
        clip_benchmark(tmp_path / "in", name)
    base = ["robustness", "--results", str(tmp_path / "in"), "--out"]
    run(*base, str(tmp_path / "own"), "--id", "val-on-imagenet-r-classes=88.1%")
    run(*base, str(tmp_path / "full"), "--axis", "full")
    own, full = ([r for r in rows(tmp_path / o) if r["baseline"] == "standard"]
                 for o in ("own", "full"))  # fmt: skip
    assert [r["in_distribution"] for r in own] == [VAL_R.name]
    assert [r["in_distribution"] for r in full] == [VAL.name]
    assert float(own[0]["rho"]) == pytest.approx(39, abs=0.5)
    assert float(full[0]["rho"]) != pytest.approx(float(own[0]["rho"]), abs=0.5)
    refused = run(*base, str(tmp_path / "none"), check=False)
    assert refused.returncode == 1
    assert "do not mix" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_one_line_of_the_readme_for_one_file(tmp_path: Path) -> None:
    """The very command of the README, on one JSON as CLIP_benchmark writes it."""
    text = (ROOT / "README.md").read_text()
    (line,) = [t for t in text.splitlines() if t.startswith("clipshift robustness --results")]
    command = line.split("  #")[0].split()
    name = command[command.index("--results") + 1]
    file = clip_benchmark(tmp_path / "scratch", "wds/imagenetv2")
    file.rename(tmp_path / name)
    done = run(*shlex.split(" ".join(command[1:])), cwd=tmp_path)
    assert "ImageNetV2: rho +5." in done.stdout
    out = tmp_path / command[command.index("--out") + 1]
    assert float(rows(out)[0]["rho"]) == pytest.approx(EXPECTED_V2, abs=0.2)


def test_a_published_models_imagenet_accuracy_is_known(tmp_path: Path) -> None:
    file = clip_benchmark(tmp_path / "in", "imagenetv2", model="ViT-B-32", pretrained="openai")
    done = run("robustness", "--results", str(file), "--out", str(tmp_path / "out"))
    assert "ViT-B-32 openai: ImageNet 63.3 % from open_clip's own table" in done.stdout
    mine = clip_benchmark(tmp_path / "in", "imagenetv2")
    done = run("robustness", "--results", str(mine), "--out", str(tmp_path / "o"), check=False)
    assert "--id val=" in done.stderr
    assert "imagenet1k" in done.stderr


def test_the_csv_that_clip_benchmark_builds(tmp_path: Path) -> None:
    """Made by CLIP_benchmark itself."""
    pytest.importorskip("clip_benchmark")
    from clip_benchmark.cli import main_build

    files = [clip_benchmark(tmp_path, f"wds/{name}") for name in ACC1]
    files.append(clip_benchmark(tmp_path, "vtab/cifar10", 0.9))
    files.append(
        clip_benchmark(tmp_path, "flickr30k", 0.0, task="zeroshot_retrieval",
                       metrics={"image_retrieval_recall@5": 0.9})
    )  # fmt: skip
    out = tmp_path / "built.csv"
    main_build(type("Options", (), {"files": list(map(str, files)), "output": str(out)}))
    built, single = read([out]), read([f for f in files if "vtab" not in str(f)])
    assert built.values == single.values
    assert built.step_counts.rejected == {OTHER_SET: 2}
    ((model, values),) = built.values.items()
    assert model == "my-ViT epoch_32.pt"
    assert values[VAL].value == ACC1["imagenet1k"]
    assert len(values) == 6


def test_open_clips_csv_with_its_broken_row(tmp_path: Path) -> None:
    file = ROOT / "workflow/clipshift/data/reference/openclip_results.csv"
    table = read([file])
    assert len(table.values) == 120
    assert table.step_counts.rejected == {BROKEN: 6}
    assert table.values["RN50 openai"][SHIFTS["v2"].axis].value == 0.5284


def test_other_formats(tmp_path: Path) -> None:
    line = {"name": "run-7", "epoch": 3, "imagenet-zeroshot-val-top1": 0.4,
            "imagenet-zeroshot-val-top5": 0.7, "imagenetv2-zeroshot-val-top1": 0.35}  # fmt: skip
    open_clip = dump(tmp_path / "logs/run-7/checkpoints/results.jsonl", json.dumps(line) + "\n")
    assert read([open_clip]).values["run-7 epoch 3"][VAL].value == 0.4
    lines = [
        {"key": "imagenet1k", "dataset": "ImageNet 1k", "metrics": {"acc1": 0.3, "acc5": 0.6}},
        {"key": "imagenet_sketch", "dataset": "ImageNet Sketch", "metrics": {"acc1": 0.2}},
        {"key": "retrieval/flickr", "dataset": "Flickr", "metrics": {"mean_recall@1": 0.2}},
    ]
    text = "\n".join(map(json.dumps, lines))
    datacomp = read([dump(tmp_path / "medium/eval_results.jsonl", text)])
    assert datacomp.values["medium"][SHIFTS["sketch"].axis].value == 0.2
    assert datacomp.step_counts.rejected == {OTHER_SET: 1}
    probe = clip_benchmark(tmp_path, "imagenet1k", task="linear_probe", metrics={"lp_acc1": 0.7})
    assert list(read([probe]).values) == ["my-ViT epoch_32.pt linear probe"]
    nothing = clip_benchmark(tmp_path, "imagenetv2", metrics={"acc5": 0.7})
    assert read([probe, nothing]).step_counts.rejected == {NO_TOP1: 1}
    japanese = clip_benchmark(tmp_path, "imagenet1k", language="jp")
    assert list(read([japanese]).values) == ["my-ViT epoch_32.pt jp"]


def ours(classes: int, name: str = "imagenet_val") -> dict[str, Any]:
    entry = {"n": 500, "top1": 0.4, "classes": [f"c{i}" for i in range(classes)]}
    return {"run": "full-b32-s0", "sets": {name: entry}}


def test_our_evaluations(tmp_path: Path) -> None:
    table = read([dump(tmp_path / "a.json", ours(1000))])
    assert table.values["full-b32-s0"][VAL] == (0.4, 500)
    for name, message in (("imagenet_r", "has 5 classes"), ("val", OTHER_SET)):
        with pytest.raises(ClipshiftError, match=rf"{message}.*figures\.effective_robustness"):
            read([dump(tmp_path / "b.json", ours(5, name))])


def test_contradictions_and_repetitions(tmp_path: Path) -> None:
    one = clip_benchmark(tmp_path / "a", "imagenet1k")
    same = clip_benchmark(tmp_path / "b", "wds/imagenet1k")
    assert read([one, same]).step_counts.rejected == {REPEATED: 1}
    other = clip_benchmark(tmp_path / "c", "imagenet1k", 0.5)
    with pytest.raises(ClipshiftError, match=r"c/imagenet1k.*0\.5.*a/imagenet1k"):
        read([one, other])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "neither JSON nor csv"),
        ("a.json", '{"x": 1}', "no result of CLIP_benchmark"),
        ("a.json", "[1]", "no result of CLIP_benchmark"),
        ("a.csv", "a,b\n1,2\n", "columns `dataset` and `model`"),
        ("a.csv", "name,ImageNet 1k\nx,many\n", "'many' is no accuracy"),
        ("a.csv", "name,ImageNet 1k\nx,63.3\n", "fractions between 0 and 1"),
        ("a.csv", "name,ImageNet 1k\nx,0.01\n", "no model with an accuracy"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        read([dump(tmp_path / name, text)])


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"nowhere\.json is not there"):
        read([tmp_path / "nowhere.json"])
    with pytest.raises(ClipshiftError, match=r"no \.json"):
        read([tmp_path])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("val=much", "is no accuracy"),
        ("imagenetv2=0.5", "not one of"),
        ("val=0.5", "the files say"),
    ],
)
def test_wrong_ids(tmp_path: Path, word: str, message: str) -> None:
    files = [clip_benchmark(tmp_path / "in", n) for n in ("imagenet1k", "imagenetv2")]
    words = ["robustness", "--results", *map(str, files), "--out", str(tmp_path / "o")]
    assert message in run(*words, "--id", word, check=False).stderr


def test_names() -> None:
    assert plain("WDS/ImageNet-V2 ") == "imagenetv2"
    assert plain("imagenetv2-matched-frequency-format-val") == "imagenetv2matchedfrequencyformatval"


def results_of(folder: Path, name: str, value: float) -> Path:
    """As open_clip writes `logs/NAME/checkpoints/results.jsonl`, without a name inside."""
    return dump(folder / "checkpoints/results.jsonl", json.dumps({name: value, "epoch": 32}))


def test_runs_with_one_file_name_are_told_apart(tmp_path: Path) -> None:
    files = [
        results_of(tmp_path / "logs/a", "imagenet-zeroshot-val-top1", 0.3),
        results_of(tmp_path / "logs/b", "imagenetv2-zeroshot-val-top1", 0.4),
    ]
    assert {m: len(v) for m, v in read(files).values.items()} == {"a epoch 32": 1, "b epoch 32": 1}
    again = results_of(tmp_path / "more/a", "imagenetv2-zeroshot-val-top1", 0.4)
    assert sorted(read([*files, again]).values) == [
        "b epoch 32", "logs/a epoch 32", "more/a epoch 32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pretrained", "names"),
    [
        (("/ck/a/checkpoints/epoch_32.pt", "/ck/b/checkpoints/epoch_32.pt"),
         ["m a/checkpoints/epoch_32.pt", "m b/checkpoints/epoch_32.pt"]),
        (("C:\\a\\epoch_32.pt", "C:\\b\\epoch_32.pt"), ["m a/epoch_32.pt", "m b/epoch_32.pt"]),
        (("epoch_32.pt", "epoch_32.pt"), ["m one/epoch_32.pt", "m two/epoch_32.pt"]),
        (("logs/a/epoch_1.pt",) * 2,
         ["m one/logs/a/epoch_1.pt", "m two/logs/a/epoch_1.pt"]),
        (("hf-hub:a/clip", "hf-hub:b/clip"), ["m hf-hub:a/clip", "m hf-hub:b/clip"]),
        (("openai", "openai"), ["m openai"]),
        (("/ck/a/epoch_32.pt",) * 2, ["m epoch_32.pt"]),
    ],
)  # fmt: skip
def test_a_models_name_is_as_much_of_its_path_as_is_needed(
    tmp_path: Path, pretrained: tuple[str, str], names: list[str]
) -> None:
    files = [
        clip_benchmark(tmp_path / folder, data, model="m", pretrained=path)
        for folder, data, path in zip(
            ("one", "two"), ("imagenet1k", "imagenetv2"), pretrained, strict=True
        )
    ]
    assert sorted(read(files).values) == names


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json", b'{"metrics": {}, "metrics": {}}', "'metrics' is there twice"),
        ("a.json", b"9" * 5000, "digits"),
        ("a.json", b"\xff\x00", "no text in UTF-8"),
        ("a.json", b"", "is neither JSON nor csv"),
        ("a.json", b'{"sets": {"imagenet_val": {"top1": 0.4, "n": 5}}}', r"lacks \['classes'\]"),
        ("a.json", b'{"sets": {"imagenet_val": 3}}', "`sets.imagenet_val` lacks"),
        ("a.json", b'{"sets": {"imagenet_val": {"top1": 0.4, "n": -5, "classes": []}}}', "`n` is"),
        ("a.jsonl", b'{"imagenet-zeroshot-val-top1": 0.3}\n{"x"', "line 2 is neither JSON"),
        ("a.jsonl", b'\n{"imagenet-zeroshot-val-top1": 63}', "line 2, `imagenet-.*: 63; .*fra"),
        ("a.csv", b"acc1,model,dataset\n0.6,m,imagenet1k\n0.5,m", "row 2: row has not the 3"),
        ("a.csv", b"dataset,model,acc1\nimagenet1k,m," + b"0" * 200_000 + b"x", "row 1, `acc1`: "),
        ("a.csv", b"dataset;model;acc1\nimagenet1k;m;-0.1", "row 1, `acc1`: '-0.1'; accuracies"),
    ],
)  # fmt: skip
def test_damaged_files_are_named_with_line_and_key(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClipshiftError, match=f"{name}.*{message}"):
        read([tmp_path / name])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "150", "-5", "1", "true", '"x"', "[]"])
def test_what_is_no_fraction_is_refused(tmp_path: Path, value: str) -> None:
    text = '{"dataset": "imagenetv2", "model": "m", "metrics": {"acc1": %s}}' % value  # noqa: UP031
    with pytest.raises(ClipshiftError, match=r"a\.json, `metrics\.acc1`: "):
        read([dump(tmp_path / "a.json", text)])


CSV = "dataset,model,pretrained,acc1\nwds/imagenet1k,m,x,0.633\nwds/imagenetv2,m,x,1.0\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", CSV.encode("utf-8-sig")),
        ("a.CSV", CSV.encode("utf-16")),
        ("a.csv", CSV.replace(",", ";").encode()),
        ("a.csv", CSV.replace("\n", "\r\n").encode()),
    ],
)
def test_a_csv_as_excel_saves_it(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    ((model, values),) = read([tmp_path]).values.items()
    assert model == "m x"
    assert [v.value for v in values.values()] == [0.633, 1.0]


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ClipshiftError, match=r"a\.json is a pipe"):
        read([tmp_path])
    with pytest.raises(ClipshiftError, match="/dev/zero is a device"):
        read([Path("/dev/zero")])


@pytest.mark.parametrize("text", ["150%", "-5", "nan", "inf", "0", "1", "nan%", "1%", "1e400"])
def test_ids_that_are_no_accuracy(tmp_path: Path, text: str) -> None:
    table = read([clip_benchmark(tmp_path, "imagenetv2")])
    with pytest.raises(ClipshiftError, match=f"--id val={text}"):
        measured_id([f"val={text}"], table)


@pytest.mark.parametrize(("text", "value"), [("63.3%", 0.633), ("0.633", 0.633), ("63.3", 0.633),
                                             ("100%", 1.0), ("1.0", 1.0)])  # fmt: skip
def test_ids_as_they_are_written(tmp_path: Path, text: str, value: float) -> None:
    table = read([clip_benchmark(tmp_path, "imagenetv2")])
    measured_id([f"val={text}"], table)
    assert table.values["my-ViT epoch_32.pt"][VAL].value == pytest.approx(value)


def test_mutants_of_results_are_read_or_refused(tmp_path: Path) -> None:
    """No mutant of a file of results ends in anything but a table or a `ClipshiftError`."""
    seeds = [
        clip_benchmark(tmp_path / "s", "imagenet1k"),
        dump(tmp_path / "s/ours.json", ours(1000)),
        dump(tmp_path / "s/a.csv", CSV),
        results_of(tmp_path / "s", "imagenet-zeroshot-val-top1", 0.4),
    ]
    outcomes = Counter[str]()
    for number in range(400):
        rng = random.Random(number)
        source = seeds[number % len(seeds)]
        file = tmp_path / f"mutant{source.suffix}"
        file.write_bytes(mutant(source.read_bytes(), rng))
        try:
            assert read([file]).values
            outcomes["read"] += 1
        except ClipshiftError as error:
            assert str(tmp_path) in str(error)
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 20
