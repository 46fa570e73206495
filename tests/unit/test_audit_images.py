"""The audit from images: every file is embedded, rejected by name, or counted as no image."""

import csv
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from clipshift.apps.audit import embed, run, thumbnails
from clipshift.apps.audit.options import Options
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.datasets.any_images import open_images
from clipshift.datasets.listing import list_folder, places
from clipshift.datasets.tars import image_places
from clipshift.similarity.encoder import Encoder
from tests import audit_case
from tests.conftest import photo


def tiny_encoder() -> Encoder:
    """Mean colours of a 4 x 4 grid: an encoder that needs no weights."""

    def preprocess(image: Image.Image) -> torch.Tensor:
        small = np.asarray(image.resize((4, 4)), dtype=np.float32) + 1
        return torch.from_numpy(small.transpose(2, 0, 1).copy())

    return Encoder(preprocess, lambda p: p.flatten(1), 3, torch.device("cpu"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_load", lambda encoder, device: tiny_encoder())
    monkeypatch.setattr(embed, "PART", 4)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def hostile_folder(root: Path) -> Path:
    for i in range(6):
        (root / f"cat/<b>{i}").mkdir(parents=True)
        (root / f"cat/<b>{i}/p.jpg").write_bytes(photo(i))
    (root / "UPPER.PNG").write_bytes(photo(9, kind="PNG"))
    (root / "empty.jpg").write_bytes(b"")
    (root / "half.jpg").write_bytes(photo(3)[:200])
    (root / "text.png").write_bytes(b"<svg onload=alert(1)>")
    (root / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (root / "notes.txt").write_text("no image")
    (root / os.fsdecode(b"\xff.jpg")).write_bytes(photo(1))
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    (root / "bomb.png").write_bytes(bomb.getvalue())
    return root


def asked(out: Path, train: Path, test: Path) -> Options:
    return audit_case.options(out, {"train_images": train, "test_images": test})


def test_hostile_files_are_rejected_by_name(tmp_path: Path) -> None:
    root = hostile_folder(tmp_path / "train")
    run.audit(asked(tmp_path / "out", root, root), ["x"])
    with (tmp_path / "out/rejected.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["side"] == "train"]
    reasons = {row["key"]: row["reason"] for row in rows}
    assert reasons == {
        "empty.jpg": "empty file",
        "half.jpg": "undecodable image",
        "text.png": "undecodable image",
        "script.jpg": "undecodable image",
        "bomb.png": f"more than {Image.MAX_IMAGE_PIXELS} pixels",
        "\\xff.jpg": "name is not UTF-8",
    }
    side = read_json(tmp_path / "out/summary.json")["inputs"]["train"]
    assert (side["in"], side["out"]) == (13, 7)
    assert side["other_files"] == {"txt": 1}
    nearest = pq.read_table(tmp_path / "out/nearest.parquet").to_pylist()
    assert all(r["train_key"] == r["test_key"] for r in nearest if r["rank"] == 1)
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("data:image/jpeg") == 14  # each image once a side
    assert "<b>" not in page.partition("<body>")[2]


def test_tars_of_samples(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "train/0.tar",
        {
            "a/1.jpg": photo(0), "a/1.txt": b"one", "b/1.JPG": photo(1),
            "2.txt": b"no image", "3.png": photo(2, kind="PNG"), "3.seg.png": photo(3),
            "4.cls": b"1", "4.jpg": b"broken",
        },
    )  # fmt: skip
    listing = open_images(tmp_path / "train")
    step_counts = embed.embed_folder("train", listing, {}, tmp_path / "w", "cpu")
    assert step_counts.went_out == 3
    assert dict(step_counts.rejected) == {
        "no image in the sample": 1,
        "second image of a sample": 1,
        "undecodable image": 1,
    }
    found = thumbnails.find(tmp_path / "train", {"a/1", "3", "4"})
    assert found["a/1"].read() == photo(0)
    assert thumbnails.data_uri(found["4"]) is None


def test_keys_shared_by_two_tars_get_the_tars_name(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_tar(tmp_path / f"{name}.tar", {"1.jpg": photo(0)})
    found = [p.key for _, unit in places(list_folder(tmp_path)) for p in unit]
    assert found == ["cat/1", "dog/1"]


def test_truncated_tar_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {f"{i}.jpg": photo(i) for i in range(9)})
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(ClipshiftError, match=r"0\.tar is truncated or damaged"):
        list(image_places(tar))


def test_empty_folder_and_folder_without_a_good_picture(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="holds no image"):
        list_folder(tmp_path)
    (tmp_path / "x.jpg").write_bytes(b"x")
    with pytest.raises(ClipshiftError, match="none of 1 images"):
        embed.embed_folder("test", open_images(tmp_path), {}, tmp_path / "w", "cpu")


def test_embedding_continues_after_a_kill_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hostile_folder(tmp_path / "train")
    run.audit(asked(tmp_path / "whole", root, root), ["x"])
    real, calls = embed._embed_part, 0

    def dying(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(embed, "_embed_part", dying)
    with pytest.raises(KeyboardInterrupt):
        run.audit(asked(tmp_path / "out", root, root), ["x"])
    run.audit(asked(tmp_path / "out", root, root), ["x"])
    # Two parts before the kill, the interrupted call, and the rest: none twice.
    assert calls == 1 + 2 * 4
    assert audit_case.outputs(tmp_path / "out") == audit_case.outputs(tmp_path / "whole")


def test_changed_picture_is_embedded_again(tmp_path: Path) -> None:
    for side in ("train", "test"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(photo(0, kind="PNG"))
    call = asked(tmp_path / "out", tmp_path / "train", tmp_path / "test")
    run.audit(call, ["x"])
    (tmp_path / "train/a.png").write_bytes(photo(5, kind="PNG"))
    run.audit(call, ["x"])
    assert pq.read_table(tmp_path / "out/nearest.parquet")["similarity"][0].as_py() < 0.999
    shutil.rmtree(tmp_path / "out/work")
    before = audit_case.outputs(tmp_path / "out")
    run.audit(call, ["x"])
    assert audit_case.outputs(tmp_path / "out") == before


def test_pictures_beside_embeddings_join_by_key(tmp_path: Path) -> None:
    (tmp_path / "p/cat").mkdir(parents=True)
    (tmp_path / "p/cat/1.png").write_bytes(photo(0, kind="PNG"))
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(photo(1))
    names = {"cat/1", "cat/1.png", str(outside), "missing", "nul\0", "x" * 5000}
    assert set(thumbnails.find(tmp_path / "p", names)) == {"cat/1", "cat/1.png", str(outside)}


def drawing(rows: slice, columns: slice) -> bytes:
    """A black shape on nothing."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[rows, columns, 3] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_images_of_equal_bytes_are_at_one_and_above_every_threshold(tmp_path: Path) -> None:
    for side, order in (("train", range(40)), ("test", range(30, -1, -3)), ("reference", [0, 3])):
        for i in order:
            path = tmp_path / side / f"{i:02d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(photo(i))
    run.audit(
        audit_case.options(
            tmp_path / "out", {}, thresholds=[0.9999, 1.0], main_threshold=1.0,
            **{f"{side}_images": tmp_path / side for side in ("train", "test", "reference")},
        ),
        ["x"],
    )  # fmt: skip
    summary = read_json(tmp_path / "out/summary.json")
    assert [row["count"] for row in summary["near_duplicates"]] == [11, 11]
    assert summary["identical"]["count"] == 11
    assert summary["similarity"]["quantiles"]["max"] == 1
    near = pq.read_table(tmp_path / "out/nearest.parquet").to_pylist()
    first = {n["test_key"]: n for n in near if n["rank"] == 1}
    for key, row in first.items():
        assert (row["train_key"], row["similarity"]) == (key, 1.0)
        # The reference has the very bytes of two of them: those are not closer to training.
        assert row["closer_than_reference"] == (key not in ("00.jpg", "03.jpg"))
    assert max(n["similarity"] for n in near) == 1
    removed = pq.read_table(tmp_path / "out/remove.parquet").to_pylist()
    exact = {r["key"]: r for r in removed if r["above_1"]}
    assert sorted(exact) == sorted(first)
    for key, row in exact.items():
        limit = first[key]["reference_similarity"]
        assert row["closer_than_reference"] == (key not in ("00.jpg", "03.jpg"))
        assert row["margin"] == pytest.approx(max(1 - limit, 0), abs=1e-9)


def test_a_transparent_drawing_meets_its_copy_on_white_and_no_other(tmp_path: Path) -> None:
    bar, box = drawing(slice(5, 60), slice(28, 36)), drawing(slice(20, 44), slice(6, 58))
    for side, files in (("train", {"bar.png": bar}), ("test", {"box.png": box, "copy.png": bar})):
        (tmp_path / side).mkdir()
        for name, data in files.items():
            (tmp_path / side / name).write_bytes(data)
    flat = Image.new("RGB", (64, 64), "white")
    with Image.open(io.BytesIO(bar)) as drawn:
        flat.paste(drawn, mask=drawn.getchannel("A"))
    flat.save(tmp_path / "train/flat.jpg", quality=95)
    images = {f"{side}_images": tmp_path / side for side in ("train", "test")}
    run.audit(audit_case.options(tmp_path / "out", {}, **images), ["x"])
    near = pq.read_table(tmp_path / "out/nearest.parquet").to_pylist()
    pairs = {(n["test_key"], n["train_key"]): n["similarity"] for n in near}
    assert pairs["copy.png", "bar.png"] == 1
    assert pairs["copy.png", "flat.jpg"] > 0.999
    assert pairs["box.png", "bar.png"] < 0.95
    green = audit_case.options(tmp_path / "green", {}, background="#00ff00", **images)
    run.audit(green, ["x"])
    near = pq.read_table(tmp_path / "green/nearest.parquet").to_pylist()
    other = {(n["test_key"], n["train_key"]): n["similarity"] for n in near}
    assert other["copy.png", "flat.jpg"] < 0.9


def test_a_table_of_hugging_face_and_a_list_of_paths(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    rows = [{"image": {"bytes": photo(i), "path": f"{i}.jpg"}, "label": i % 2} for i in range(6)]
    rows.append({"image": {"bytes": photo(1)[:99], "path": "x.jpg"}, "label": 0})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hf/train-00000-of-00001.parquet")
    (tmp_path / "i").mkdir()
    for i in range(3):
        (tmp_path / f"i/{i}.jpg").write_bytes(photo(i))
    (tmp_path / "list.csv").write_text("filepath,title\ni/0.jpg,a\ni/1.jpg,b\ni/gone.jpg,c\n")
    run.audit(
        audit_case.options(
            tmp_path / "out", {}, train_images=tmp_path / "hf", test_images=tmp_path / "list.csv"
        ),
        ["x"],
    )
    summary = read_json(tmp_path / "out/summary.json")
    assert summary["inputs"]["train"]["rejected"] == {"undecodable image": 1}
    assert summary["inputs"]["test"]["rejected"] == {"image file is missing": 1}
    assert summary["identical"]["count"] == 2
    with (tmp_path / "out/rejected.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 2


def test_labels_of_a_table_of_hugging_face(tmp_path: Path) -> None:
    from clipshift.apps.labelling.catalogue import open_catalogue
    from clipshift.apps.labelling.views import Previews

    (tmp_path / "hf").mkdir()
    rows = [{"image": {"bytes": photo(i), "path": f"{i}.jpg"}} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hf/a.parquet")
    catalogue = open_catalogue(tmp_path / "hf")
    assert len(catalogue.items) == 3 and all(item.place is None for item in catalogue.items)
    catalogue.prefetch([item.key for item in catalogue.items])
    assert [catalogue.read(item) for item in catalogue.items] == [photo(i) for i in range(3)]
    assert Previews(catalogue).jpeg(catalogue.items[0].key) is not None
