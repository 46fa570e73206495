"""What comes from outside: packages by their hash, encoders by their names."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, sha256_bytes, write_npy
from clipshift.datasets.package import fetch
from clipshift.datasets.shards import write_table, write_tar
from clipshift.datasets.tars import Sample
from clipshift.similarity import embed, encoders
from clipshift.similarity.embeddings import read_shard, shard_paths
from clipshift.similarity.encoder import Encoder
from clipshift.similarity.encoders.open_clip import OpenClipEncoder
from clipshift.study.config.data import Package
from tests.conftest import photo, row

CONTENT = b"a package"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Package:
    """A package that is in no registry, and an empty cache."""
    monkeypatch.setenv("CLIPSHIFT_CACHE", str(tmp_path / "cache"))
    return Package(
        registry="npm", name="no-such-thing", version="1.2.3", sha256=sha256_bytes(CONTENT)
    )


def cached(tmp_path: Path, package: Package, content: bytes) -> Path:
    file = tmp_path / "cache/packages" / package.sha256
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def test_file_in_the_cache_needs_no_client(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, package, CONTENT)
    monkeypatch.setenv("PATH", "")
    fetch(package, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_damaged_file_in_the_cache_is_refused(package: Package, tmp_path: Path) -> None:
    file = cached(tmp_path, package, CONTENT[:-1])
    with pytest.raises(ClipshiftError, match=rf"{file} in the package cache is damaged.*delete it"):
        fetch(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("registry", ["npm", "debian"])
def test_missing_client_says_what_to_do_by_hand(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Any
) -> None:
    monkeypatch.setenv("PATH", "")
    asked = package.model_copy(update={"registry": registry})
    with pytest.raises(ClipshiftError, match=f"is not installed.*put the file.*{package.sha256}"):
        fetch(asked, tmp_path / "out")


def test_no_network_says_which_package_and_what_to_do_by_hand(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shutil.which("npm"), "the study's packages need npm"
    for key, value in (
        ("registry", "http://127.0.0.1:9"),
        ("fetch_retries", "0"),
        ("cache", str(tmp_path)),
    ):
        monkeypatch.setenv(f"npm_config_{key}", value)
    with pytest.raises(ClipshiftError) as error:
        fetch(package, tmp_path / "out")
    message = str(error.value)
    assert "npm pack could not fetch no-such-thing 1.2.3" in message
    assert str(tmp_path / "cache/packages" / package.sha256) in message
    assert not (tmp_path / "out").exists()


def test_fetched_file_with_another_hash_is_not_kept(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that brings another file than the configuration pins."""
    client = tmp_path / "bin/npm"
    client.parent.mkdir()
    client.write_text('#!/bin/sh\nprintf other > "$4/p.tgz"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    with pytest.raises(
        ClipshiftError, match=f"1.2.3: the fetched file has sha256.*{package.sha256}"
    ):
        fetch(package, tmp_path / "out")
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()
    pinned = package.model_copy(update={"sha256": sha256_bytes(b"other")})
    fetch(pinned, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"other"


def test_unknown_model_is_answered_with_near_names() -> None:
    spec = OpenClipEncoder(kind="open_clip", model="ViT-B-16-plus-241", pretrained="x")
    with pytest.raises(
        ClipshiftError, match=r"no model 'ViT-B-16-plus-241'; did you mean.*plus-240"
    ):
        encoders.load(spec, "cpu")


def test_unknown_weights_are_refused() -> None:
    spec = OpenClipEncoder(kind="open_clip", model="RN50", pretrained="no-such-tag")
    with pytest.raises(ClipshiftError, match="weights 'no-such-tag' of 'RN50' could not be loaded"):
        encoders.load(spec, "cpu")


def encoder_of(forward: Any, batch: int = 3) -> Encoder:
    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((4, 4)), np.float32)).permute(2, 0, 1) / 255

    return Encoder(preprocess, forward, batch, torch.device("cpu"))


PIXELS = encoder_of(lambda x: x.flatten(1))


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_encoder_that_gives_no_direction_is_refused(bad: float) -> None:
    images = [Image.new("RGB", (8, 8), "red")] * 2
    with pytest.raises(ClipshiftError, match="NaN, infinite or zero vectors in rows"):
        encoder_of(lambda x: torch.full((len(x), 5), bad)).encode(images)


def image_row(number: int, image: bytes) -> dict[str, Any]:
    return row("s", str(number), sha256=sha256_bytes(image))


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, Path]:
    """Eight images, of which one is torn, and a sample without an image."""
    parts = [{"jpg": photo(i) if i != 2 else b"torn"} for i in range(8)] + [{"txt": b"none"}]
    write_tar(tmp_path / "0.tar", [Sample(f"s-{i}", p) for i, p in enumerate(parts)])
    rows = [image_row(i, part.get("jpg", b"")) for i, part in enumerate(parts)]
    write_table(tmp_path / "0.parquet", rows[::-1])
    return tmp_path / "0.tar", tmp_path / "0.parquet"


def test_embed_writes_unit_rows_aligned_with_their_keys(shard: Any, tmp_path: Path) -> None:
    step_counts = embed.embed(PIXELS, *shard, "0", tmp_path / "e")
    assert step_counts.rejected == {"undecodable image": 1, "no image in the sample": 1}
    assert read_json(tmp_path / "e/account/account_0.json") == step_counts.as_json()
    found = read_shard(tmp_path / "e", "0")
    assert found.keys == [f"s-{i}" for i in (0, 1, 3, 4, 5, 6, 7)]
    import io

    for key, vector in zip(found.keys, found.vectors, strict=True):
        image = Image.open(io.BytesIO(photo(int(key[2:])))).convert("RGB")
        np.testing.assert_array_equal(vector, PIXELS.encode([image])[0].astype(np.float16))


def test_embedding_does_not_depend_on_the_batch(shard: Any, tmp_path: Path) -> None:
    for batch in (1, 7, 64):
        embed.embed(encoder_of(lambda x: x.flatten(1), batch), *shard, "0", tmp_path / str(batch))
    files = [shard_paths(tmp_path / str(b), "0")[0].read_bytes() for b in (1, 7, 64)]
    assert files[0] == files[1] == files[2]


def test_rows_that_slipped_are_found(shard: Any, tmp_path: Path) -> None:
    embed.embed(PIXELS, *shard, "0", tmp_path / "e")
    image, _ = shard_paths(tmp_path / "e", "0")
    write_npy(image, np.roll(np.load(image), 1, axis=0))
    with pytest.raises(ClipshiftError, match="rows and metadata are not aligned"):
        embed.verify(PIXELS, shard[0], "0", tmp_path / "e")


def test_an_image_that_was_replaced_since_its_table_was_made_is_refused(
    shard: Any, tmp_path: Path
) -> None:
    parts = [{"jpg": photo(i if i != 5 else 70)} for i in range(9)]
    write_tar(shard[0], [Sample(f"s-{i}", p) for i, p in enumerate(parts)])
    with pytest.raises(ClipshiftError, match=r"image of the sample 's-2' is another one than in"):
        embed.embed(PIXELS, *shard, "0", tmp_path / "e")
    assert not list(tmp_path.glob("e/**/*.npy"))


def test_sample_without_a_row_is_refused(shard: Any, tmp_path: Path) -> None:
    rows = read_parquet(shard[1]).to_pylist()
    write_table(shard[1], rows[-3:])
    with pytest.raises(ClipshiftError, match=r"'s-3' has no row in .*0\.parquet"):
        embed.embed(PIXELS, *shard, "0", tmp_path / "e")


def test_shard_without_a_picture_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [Sample("s-0", {"jpg": b"torn"})])
    write_table(tmp_path / "0.parquet", [image_row(0, b"torn")])
    with pytest.raises(ClipshiftError, match="no image of 1 samples"):
        embed.embed(PIXELS, tmp_path / "0.tar", tmp_path / "0.parquet", "0", tmp_path / "e")
