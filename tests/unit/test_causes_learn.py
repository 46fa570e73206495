"""Cross-entropy and SimCLR trainings: loss, order of images, schedule, and that they continue."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json, write_parquet
from clipshift.core.step import Job
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.evaluation.protocols import columns
from clipshift.study.config.causes import AnyControlled
from clipshift.study.config.objective_base import Controlled
from clipshift.study.config.trainings import EpochTraining, Training
from clipshift.study.continuing import PROGRESS
from clipshift.training import loop, vision
from clipshift.training.images import Batches, ImageViews, index_tars
from clipshift.training.init_tower import start_text, start_vision
from clipshift.training.nt_xent import nt_xent
from clipshift.training.towers import TowerWithHead, build
from tests.conftest import photo

NANO: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
    },
}  # fmt: skip


def training(**changes: Any) -> Training:
    given = {"model": NANO, "samples": 48, "batch": 8, "checkpoints": 3, "warmup": 2}
    return Training(**(given | changes))


def controlled(objective: str, **changes: Any) -> Any:
    given = {"objective": objective, "base": "b", "corpus": "c"}
    return TypeAdapter(AnyControlled).validate_python(given | changes)


@pytest.fixture
def chosen(tmp_path: Path) -> tuple[Path, list[str]]:
    """20 labelled images in two tars, and two that are not chosen."""
    keys = [f"k{i:02d}" for i in range(22)]
    tars = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for tar, part in zip(tars, (keys[:9], keys[9:]), strict=True):
        write_tar(tar, (Sample(k, {"jpg": photo(int(k[1:])), "txt": b"t"}) for k in part))
    table = tmp_path / "chosen.parquet"
    labels = [[i % 3] for i in range(22)]
    kept = [i < 20 for i in range(22)]
    write_parquet(table, pa.table({"key": keys, "kept": kept, "labels": labels}))
    write_json(table.with_suffix(".json"), {"out": 20})
    return table, [str(tar) for tar in tars]


def run(
    chosen: tuple[Path, list[str]], folder: Path, spec: Controlled, start: Path | None = None,
    **changes: Any,
) -> Path:  # fmt: skip
    vision.train(
        "split-model-s0", chosen[0], chosen[1], training(**changes), spec, ["a", "b", "c"], 0,
        folder / "work", folder / "out/model.pt", start,
    )  # fmt: skip
    return folder / "out"


def test_nt_xent_against_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    views = [*first, *second]
    total = 0.0
    for i, view in enumerate(views):
        others = [k for k in range(10) if k != i]
        similar = {k: float(torch.cosine_similarity(view, views[k], dim=0)) / 0.2 for k in others}
        total -= similar[(i + 5) % 10] - math.log(sum(math.exp(s) for s in similar.values()))
    assert float(nt_xent(first, second, 0.2)) == pytest.approx(total / 10)
    assert float(nt_xent(first, first, 0.01)) < float(nt_xent(first, second, 0.01))


def test_every_pass_sees_every_picture_once_in_a_new_order() -> None:
    flat = [place for batch in Batches(10, 4, 0, 0, 5) for place in batch]
    rows = [row for row, _ in flat]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]
    assert [number for _, number in flat] == list(range(20))
    assert list(Batches(10, 4, 0, 2, 5)) == list(Batches(10, 4, 0, 0, 5))[2:]
    assert list(Batches(10, 4, 1, 0, 5)) != list(Batches(10, 4, 0, 0, 5))


def test_processes_share_each_batch() -> None:
    whole = list(Batches(10, 4, 0, 0, 5))
    parts = [list(Batches(10, 4, 0, 0, 5, rank, 2)) for rank in (0, 1)]
    for one, first, second in zip(whole, *parts, strict=True):
        assert sorted(first + second) == sorted(one)


def test_pictures_are_found_and_views_follow_from_their_number(
    chosen: tuple[Path, list[str]],
) -> None:
    tars = [Path(tar) for tar in chosen[1]]
    index = index_tars(tars, ["k03", "k20"])
    seen: list[Any] = []
    images = ImageViews(index, lambda image: seen.append(image) or torch.rand(1), 0)
    first, again, other = images[0, 5][0], images[0, 5][0], images[0, 6][0]
    assert first == again != other
    assert [row for _, row in (images[1, 0], images[0, 0])] == [1, 0]
    assert np.array_equal(np.asarray(seen[0]), np.asarray(seen[1]))
    with pytest.raises(ClipshiftError, match=r"1 images .* none of 2 tars, e\.g\. 'zz'"):
        index_tars(tars, ["k03", "zz"])


def test_learning_rates() -> None:
    """Warm-up and cosine as open_clip's; or a tenth after each milestone."""
    from open_clip_train.scheduler import cosine_lr

    settings = training(lr=0.5)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = cosine_lr(optimizer, 0.5, 2, 6)
    ours = loop.schedule(settings, controlled("simclr"))
    assert [ours(i) for i in range(6)] == pytest.approx([theirs(i) for i in range(6)])
    steps = loop.schedule(
        training(lr=1.0, warmup=0), controlled("cross_entropy", milestones=[1 / 3, 2 / 3])
    )
    assert [steps(i) for i in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_several_labels_are_equal_parts(tmp_path: Path) -> None:
    kept, labelled = [True, True, False], [[1], [0, 2], [1]]
    table = pa.table({"key": ["c", "a", "b"], "kept": kept, "labels": labelled})
    write_parquet(tmp_path / "c.parquet", table)
    keys, labels = vision.read_chosen(tmp_path / "c.parquet", 3)
    assert keys == ["a", "c"]
    assert labels.targets(np.array([1, 0])).tolist() == [[0, 1, 0], [0.5, 0, 0.5]]


@pytest.mark.parametrize(
    "spec",
    [
        controlled("cross_entropy"),
        controlled("cross_entropy", optimizer="sgd", milestones=[0.5]),
        controlled("simclr", projection=8),
    ],
)
def test_stopped_ten_times_ends_with_the_same_bytes(
    chosen: tuple[Path, list[str]], tmp_path: Path, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start has one part of two steps, and is gone within the next."""
    settings = {"samples": 192, "checkpoints": 12, "accumulation": 2, "cache_px": 20}
    whole = run(chosen, tmp_path / "whole", spec, **settings)
    loss, count = type(spec).loss, 0

    def killed(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count > 2 * (2 if spec.separable else 1):  # calls of a part
            raise KeyboardInterrupt
        return loss(*given)

    for number in range(10):
        count = 0
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(type(spec), "loss", killed)
            run(chosen, tmp_path / "again", spec, **settings)
        saved = torch.load(tmp_path / "again/work/checkpoint.pt", weights_only=True)
        assert len(saved["losses"]) == number + 1
        assert read_json(tmp_path / f"again/work/{PROGRESS}") == {"parts": number + 1}
    continued = run(chosen, tmp_path / "again", spec, **settings)
    for name in ("model.pt", "loss.csv"):
        assert (whole / name).read_bytes() == (continued / name).read_bytes()
    assert not (tmp_path / "again/work").exists()
    record = read_json(continued / "record.json")
    assert (record["split"], record["samples_seen"], record["split_samples"]) == ("split", 192, 20)


def test_epochs_are_of_the_images_that_can_be_read(
    chosen: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """As a training of the same samples; the weights after every epoch are kept."""
    spec, epochs = controlled("cross_entropy"), tmp_path / "epochs/out/epochs"
    by_samples = run(chosen, tmp_path / "samples", spec, samples=80, batch=4, checkpoints=8)
    settings = EpochTraining(model=NANO, epochs=4, batch=4, checkpoints=8, warmup=2)
    vision.train(
        "split-model-s0", chosen[0], chosen[1], settings, spec, ["a", "b", "c"], 0,
        tmp_path / "epochs/work", tmp_path / "epochs/out/model.pt", epochs=epochs,
    )  # fmt: skip
    by_epochs = (tmp_path / "epochs/out/model.pt").read_bytes()
    assert by_epochs == (by_samples / "model.pt").read_bytes()
    record = read_json(tmp_path / "epochs/out/record.json")
    assert record["samples_seen"] == 96  # in whole batches of each part
    assert [e["samples_seen"] for e in record["epochs"].values()] == [24, 48, 72, 96]
    assert sorted(file.name for file in epochs.iterdir()) == ["1.pt", "2.pt", "3.pt", "4.pt"]
    assert (epochs / "4.pt").read_bytes() == by_epochs != (epochs / "3.pt").read_bytes()


def test_another_seed_or_objective_is_not_continued(
    chosen: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    run(chosen, folder, controlled("cross_entropy"))
    first = (folder / "out/model.pt").read_bytes()
    write_json(folder / "work/identity.json", {"another": "training"})
    (folder / "work/checkpoint.pt").write_bytes(b"of another training")
    run(chosen, folder, controlled("cross_entropy"))
    assert (folder / "out/model.pt").read_bytes() == first


def test_pictures_in_place_give_what_a_copy_gives(
    chosen: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """`read: filter` reads the tars where they are; the order is by key, not by place."""
    copied = run(chosen, tmp_path / "copy", controlled("cross_entropy"))
    placed = run(chosen, tmp_path / "place", controlled("cross_entropy"), read="filter")
    assert (copied / "model.pt").read_bytes() == (placed / "model.pt").read_bytes()


def test_training_learns(chosen: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = run(
        chosen, tmp_path, controlled("cross_entropy"), samples=1280, lr=3e-3, checkpoints=4,
        augmentation={"scale": [0.9, 1.0]},
    )  # fmt: skip
    losses = [float(line.split(",")[2]) for line in (out / "loss.csv").read_text().split()[1:]]
    assert losses[-1] < 0.5 * losses[0]


def test_noclip_starts_from_simclrs_tower(chosen: tuple[Path, list[str]], tmp_path: Path) -> None:
    weights = run(chosen, tmp_path / "simclr", controlled("simclr", projection=8)) / "model.pt"
    model = build(training(), controlled("cross_entropy"), 3, 1, tmp_path)
    head = model.head.weight.clone()  # type: ignore[union-attr, operator]
    start_vision(model, weights)
    saved = torch.load(weights, weights_only=True)
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items() if "visual" in k)
    assert torch.equal(model.head.weight, head)  # type: ignore[arg-type]
    plain = run(chosen, tmp_path / "plain", controlled("cross_entropy"))
    started = run(chosen, tmp_path / "started", controlled("cross_entropy"), start=weights)
    assert (plain / "model.pt").read_bytes() != (started / "model.pt").read_bytes()
    other = build(training(model=NANO | {"embed_dim": 8}), controlled("simclr"), 0, 0, tmp_path)
    with pytest.raises(ClipshiftError, match="does not fit this model"):
        start_vision(other, weights)


def test_a_text_tower_of_another_run(tmp_path: Path) -> None:
    """Every text weight is the other run's; the vision tower and the scale are the model's own."""
    import open_clip

    from clipshift.similarity.open_clip_models import register

    register("clipshift-nano", NANO, tmp_path)
    torch.manual_seed(0)
    donor = open_clip.create_model("clipshift-nano", load_weights=False).state_dict()
    torch.save(donor, tmp_path / "donor.pt")
    torch.manual_seed(1)
    model = open_clip.create_model("clipshift-nano", load_weights=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    start_text(model, tmp_path / "donor.pt")
    after = model.state_dict()
    mine = {k for k in after if torch.equal(after[k], before[k])}
    taken = {k for k in after if torch.equal(after[k], donor[k])}
    assert {k for k in after if k.startswith("visual.conv1")} <= mine - taken
    assert {
        "token_embedding.weight",
        "text_projection",
        "transformer.resblocks.0.mlp.c_fc.weight",
    } <= taken - mine
    tower = TowerWithHead(model.visual, torch.nn.Identity())
    torch.save(tower.state_dict(), tmp_path / "vision.pt")
    with pytest.raises(ClipshiftError, match="does not fit this model"):
        start_text(model, tmp_path / "vision.pt")


def test_classes_of_a_set_among_a_models() -> None:
    assert columns(["missile", "dog", "missile"], ["missile", "dog", "missile"]) == [[0], [1], [2]]
    with pytest.raises(ClipshiftError, match=r"\['cow'\]"):
        columns(["cat", "dog"], ["cat", "cow"])
    with pytest.raises(ClipshiftError, match=r"\['missile'\]"):
        columns(["missile", "dog", "missile"], ["missile", "dog"])


@pytest.mark.parametrize("objective", ["cross_entropy", "simclr"])
def test_two_processes_train_one_model(
    chosen: tuple[Path, list[str]], tmp_path: Path, objective: str
) -> None:
    """As on several GPUs: torchrun, here with gloo; both see parts of one batch."""
    spec = controlled(objective, **({"projection": 8} if objective == "simclr" else {}))
    params = {
        "run": "split-model-s0", "split": chosen[0], "tars": chosen[1],
        "training": training(samples=16, checkpoints=2, processes=2), "spec": spec,
        "classes": ["a", "b", "c"], "seed": 0, "work": tmp_path / "work",
        "model": tmp_path / "out/model.pt",
    }  # fmt: skip
    job = Job("training.vision.train", {}, lambda: params)
    done = subprocess.run(
        [sys.executable, "-m", "clipshift.core.step", job.step],
        input=str(job), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_json(tmp_path / "out/record.json")["samples_seen"] == 16
    one = run(chosen, tmp_path / "one", spec, samples=16, checkpoints=2)
    state, alone = (
        torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path / "out", one)
    )
    # The batch norms of each process see half a batch, so the models are alike, not equal.
    layer = "head.weight" if objective == "cross_entropy" else "head.2.weight"
    assert float((state[layer] - alone[layer]).abs().max()) < 0.02
