"""The user's data of a full-scale study that `scale` made smaller: real images, its own formats.

What is written follows from the configuration: tars, samples, classes and folders are its numbers.
Images are those of the test study's sources: photographs, colour drawings and line drawings.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote_plus

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.imagenet_info import ImageNetInfo

from clipshift.core.files import sha256_bytes, write_json, write_text
from clipshift.datasets.captions.matcher import wordnet_names
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.evaluation.views import published
from clipshift.similarity.open_clip_models import register
from clipshift.study.config import causes
from clipshift.study.config.folders import CaptionedPool, FolderPool, FolderSet
from clipshift.study.config.study import Config

KINDS = {"photo": "test_photo", "colour": "test_color", "line": "test_black"}
# Sets that hold drawings; the others hold photographs.
DRAWN = {
    "imagenet_sketch": "line", "imagenet_r": "colour", "dn_sketch": "line", "dn_clipart": "colour",
    "dn_painting": "colour", "dn_quickdraw": "line",
}  # fmt: skip
# Of the shared images, so many are kept for the sets.
HELD_OUT = 24
# Classes that YFCC's titles name.
NAMED = 8
Captioned = tuple[str, bytes]  # caption, encoded image


class Images:
    """The images by kind: `pool` and `sets` share none."""

    def __init__(self, study: Path) -> None:
        self.pool: dict[str, list[Captioned]] = {}
        self.sets: dict[str, list[Captioned]] = {}
        for kind, source in KINDS.items():
            samples = read_tar(study / f"results/sources/{source}/samples.tar")
            images = [(s.parts["txt"].decode(), s.image) for s in samples]
            self.sets[kind], self.pool[kind] = images[:HELD_OUT], images[HELD_OUT:]


def again(image: bytes) -> bytes:
    """The same image, stored anew: other bytes, nearly the same pixels."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").save(stream, "JPEG", quality=92)
    return stream.getvalue()


def collage(photo: Captioned, drawing: Captioned) -> Captioned:
    """A poster with a photograph and a drawing: ambiguous."""
    poster = Image.new("RGB", (64, 64), (220, 20, 200))
    for (_, image), place in ((photo, (4, 4)), (drawing, (40, 40))):
        poster.paste(Image.open(io.BytesIO(image)).convert("RGB").resize((20, 20)), place)
    stream = io.BytesIO()
    poster.save(stream, "JPEG", quality=95)
    return f"{photo[0]}, {drawing[0]}", stream.getvalue()


def write_sets(data: Path, cfg: Config, by_kind: Images) -> None:
    """Every labelled set in CLIP_benchmark's layout, two tars each."""
    for name, block in cfg.sets.items():
        assert isinstance(block, FolderSet)
        folder, images = data / block.folder, cycle(by_kind.sets[DRAWN.get(name, "photo")])
        samples = [
            Sample(f"{name}{i:06d}", {"jpg": image, "cls": str(i % block.classes).encode()})
            for i, (_, image) in enumerate(islice(images, block.samples))
        ]
        for tar in range(2):
            write_tar(folder / block.split / f"{tar}.tar", samples[tar::2])
        write_text(folder / block.split / "nshards.txt", "2\n")
        lines = class_names(cfg, name, block.classes)
        write_text(folder / "classnames.txt", "".join(f"{n}\n" for n in lines))


def class_names(cfg: Config, name: str, classes: int) -> list[str]:
    """Of a labelled set; ObjectNet's are those by which answers are looked up."""
    answers = cfg.causes.answers.get(name)
    known = published(answers) if isinstance(answers, str) else None
    return list(known)[:classes] if isinstance(known, dict) else names(classes)


def names(classes: int) -> list[str]:
    return list(open_clip.zero_shot_metadata.IMAGENET_CLASSNAMES[:classes])


def write_text_towers(data: Path, cfg: Config) -> None:
    """The user's files of weights: models of random weights in the sizes of those that begin so."""
    for name, spec in cfg.causes.models.items():
        if spec.given is None:
            continue
        with TemporaryDirectory() as folder:
            register("clipshift-given", causes.training(cfg, name).model, Path(folder))
        torch.manual_seed(0)
        model = open_clip.create_model("clipshift-given", load_weights=False)
        save_file(model.state_dict(), data / spec.given)


def write_pool(
    data: Path, block: FolderPool, images: Sequence[Captioned], **columns: Sequence[str]
) -> list[str]:
    """What img2dataset leaves: tars with a table each, failed rows among them; returns the keys.

    Args:
        columns: further columns of the tables, of each image.
    """
    assert len(images) == block.samples
    keys: list[str] = []
    for number in range(block.tars):
        rows: list[dict[str, Any]] = []
        samples = []
        for row, i in enumerate(range(number, len(images), block.tars)):
            caption, image = images[i]
            key = f"{number:05d}{row:04d}"
            entry = {"key": key, "url": f"https://example.org/{key}.jpg", "caption": caption}
            entry |= {"status": "success", "sha256": sha256_bytes(image), "error_message": None}
            entry |= {name: values[i] for name, values in columns.items()}
            samples.append(Sample(key, {"jpg": image, "txt": caption.encode(), "json": b"{}"}))
            rows.append(entry)
        keys += [entry["key"] for entry in rows]
        lost = {"key": f"{number:05d}9999", "status": "failed_to_download", "sha256": None}
        rows.append(rows[-1] | lost | {"error_message": "HTTP Error 404"})
        folder = data / block.folder
        write_tar(folder / f"{number:05d}.tar", samples)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number:05d}.parquet")
        write_json(folder / f"{number:05d}_stats.json", {"count": len(rows)})
    return keys


def encoder(folder: Path, by_kind: Images, px: int = 32, width: int = 192) -> Path:
    """A small CLIP of random weights in open_clip's layout of a local model.

    Image features of random weights all point in one direction: its projection whitens those of
    the images, and has an axis for each kind of image, which a real encoder knows, too.
    """
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": px, "layers": 1, "width": width, "patch_size": 8},
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1
        },
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {}})
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", load_weights=False
    )
    images = [image for kind in by_kind.pool.values() for _, image in kind]
    pixels = torch.stack([preprocess(Image.open(io.BytesIO(i)).convert("RGB")) for i in images])
    sizes = torch.tensor([len(kind) for kind in by_kind.pool.values()])
    kinds = torch.eye(len(sizes)).repeat_interleave(sizes, 0)
    visual = model.eval().visual
    with torch.no_grad():
        visual.proj = torch.nn.Parameter(torch.eye(width))
        features = visual(pixels)
        visual.ln_post.bias -= features.mean(0)
        x = features - features.mean(0)
        _, scales, axes = torch.linalg.svd(x, full_matrices=False)
        spread = 32 - len(sizes)
        white = (axes[:spread] / scales[:spread, None]).T * len(x) ** 0.5
        apart = torch.linalg.lstsq(x, 4 * (kinds - kinds.mean(0))).solution
        visual.proj = torch.nn.Parameter(torch.cat([white, apart], 1).contiguous())
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


# Smaller models than those that the user's files of weights are of.
SMALLER: dict[str, dict[str, Any]] = {
    "vgg19_gram": {"model": "test_resnet", "layers": ["conv1.0", "layer1.0.conv1"]},
    "csd": {"model": "ViT-S-32-alt"},
}


def write_weights(data: Path, cfg: Config) -> None:
    """Random weights in the authors' formats: of a model of timm, and of style descriptors."""
    torch.manual_seed(0)
    net = timm.create_model(SMALLER["vgg19_gram"]["model"])
    visual = open_clip.create_model(SMALLER["csd"]["model"], load_weights=False).visual
    tower = visual.state_dict()
    style = {"module.last_layer_style": tower.pop("proj")}
    style |= {f"module.backbone.{name}": value for name, value in tower.items()}
    for name, state in ("vgg19_gram", net.state_dict()), ("csd", {"model_state_dict": style}):
        file = data / cfg.encoders[name].weights.removeprefix("data:")  # type: ignore[attr-defined]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)


def laion(data: Path, cfg: Config, by_kind: Images) -> None:
    """The pool, of which a part is there twice; a labelled sample of it; the sets."""
    pool, labelled = cfg.pools["laion400m"], cfg.pools["laion_labelled"]
    assert isinstance(pool, FolderPool) and isinstance(labelled, FolderPool)
    photos, *drawings = by_kind.pool.values()
    drawn_in_turn = [drawing for pair in zip(*drawings, strict=False) for drawing in pair]
    distinct = [*photos, *drawn_in_turn][: 2 * pool.samples // 3]
    twice = [(caption, again(image)) for caption, image in distinct]
    write_pool(data, pool, [*distinct, *twice][: pool.samples])
    images = (cycle(by_kind.pool[kind]) for kind in ("photo", "line", "photo", "line"))
    turns = zip(*images, strict=True)  # endless
    fives = ([*turn, collage(turn[0], turn[3])] for turn in turns)
    drawn = list(islice(chain.from_iterable(fives), labelled.samples))
    label = [(0, 1, 0, 1, 2)[i % 5] for i in range(len(drawn))]
    keys = write_pool(data, labelled, drawn)
    # `write_pool` deals the images out to the tars.
    order = [i for tar in range(labelled.tars) for i in range(tar, len(drawn), labelled.tars)]
    file = data / "laion-labelled/labels.parquet"
    write_labels(file, {key: label[i] for key, i in zip(keys, order, strict=True)})
    write_sets(data, cfg, by_kind)
    write_weights(data, cfg)
    assert cfg.domains
    for name, path in cfg.domains.benchmarks.items():
        samples = cfg.sets[name].samples  # type: ignore[union-attr]
        judged = {f"{name}{i:06d}": int(name in DRAWN) for i in range(0, samples, 2)}
        write_labels(data / path.removeprefix("data:"), judged)


def write_labels(file: Path, label: Mapping[str, int]) -> None:
    """A table of one person's labels: of each key 0 natural, 1 rendition or 2 ambiguous."""
    rows = [
        {"key": key, "label": value, "concept": None, "source": None, "annotator": "ann"}
        for key, value in label.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def incaps(data: Path, cfg: Config, by_kind: Images) -> None:
    """ImageNet's folders of classes, and captions of their images in ImageNet-Captions' JSON.

    One title in ten is of another script; one entry has no image, one no class folder.
    """
    block = cfg.pools["incaps"]
    assert isinstance(block, CaptionedPool)
    ids, classes = ImageNetInfo().label_names(), names(block.classes)
    entries: list[dict[str, Any]] = []
    for i, (caption, image) in enumerate(islice(every(by_kind), block.samples)):
        wnid, name = ids[i % block.classes], classes[i % block.classes]
        file = data / block.folder / wnid / f"{wnid}_{i}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(again(image))
        title = "красная лиса" if i % 10 == 9 else f"my {name}"
        entries.append({"filename": file.name, "wnid": wnid, "title": title})
        entries[-1] |= {"description": caption, "tags": caption.split()[:3]}
    entries.append(entries[0] | {"filename": "lost.JPEG"})
    entries.append(entries[0] | {"filename": "other.JPEG", "wnid": "n99999999"})
    (data / block.captions).write_text(json.dumps(entries))
    write_sets(data, cfg, by_kind)
    write_text_towers(data, cfg)


def yfcc(data: Path, cfg: Config, by_kind: Images) -> None:
    """YFCC's texts, URL-encoded; the title of every second image names one of eight classes."""
    block = cfg.pools["yfcc15m"]
    assert isinstance(block, FolderPool)
    images = list(islice(every(by_kind), block.samples))
    named = [lemmas[0] for lemmas in wordnet_names()[:NAMED]]
    titles = [
        quote_plus(f"a {named[i // 2 % NAMED]}!" if i % 2 else "a day out")
        for i in range(len(images))
    ]
    texts = [quote_plus(caption) for caption, _ in images]
    write_pool(data, block, images, title=titles, description=texts, usertags=texts)
    write_sets(data, cfg, by_kind)
    write_text_towers(data, cfg)


def every(by_kind: Images) -> Iterator[Captioned]:
    """All images of the pool, again and again."""
    return cycle(image for kind in by_kind.pool.values() for image in kind)


WRITERS = {"laion400m_scaled": laion, "imagenet_captions_scaled": incaps, "yfcc15m_scaled": yfcc}
