"""COCO's annotations: a JSON of images and their captions or objects, and a folder of images."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.formats.json_files import parse
from clipshift.datasets.formats.table import locate
from clipshift.datasets.formats.tar_samples import as_text
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.listing import kind_of, natural, walk
from clipshift.datasets.records import Place, Record, Rejected, printable

_HEAD = re.compile(r'\s*\{\s*"(info|images|annotations|licenses|categories|type)"\s*:')
_MOST = 1_000  # JSON files of a folder of annotations
_TRIED = 20  # images that are looked for in a folder before the next is tried

Id = int | str | None


class ImageEntry(TypedDict, total=False):
    """An image of a file of annotations."""

    id: Id
    file_name: str | None
    coco_url: str | None


class Annotation(TypedDict, total=False):
    """A caption or an object."""

    id: Id
    image_id: Id
    caption: str | None
    category_id: Id


class Category(TypedDict):
    """A class of objects."""

    id: int | str
    name: str


class Annotations(TypedDict):
    """A file of annotations."""

    images: list[ImageEntry]
    annotations: NotRequired[list[Annotation]]
    categories: NotRequired[list[Category]]


_FORM = TypeAdapter(Annotations)


class Coco(Dataset):
    """Keys are the ids of images; images come in the order of ids, as pycocotools has them.

    Of an image's captions that of the smallest annotation id is read. Its label is the category of
    its objects, where they are of one category. A file of annotations is in memory whole.
    """

    name = "coco"
    rank = 50
    about = "captions_*.json or instances_*.json and a folder of images (COCO, Flickr30k)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if path.is_file():
            return "a JSON of images and annotations" if _is_annotations(path) else None
        found = _annotations(path)
        return f"annotations in {found[0].relative_to(path)}" if found else None

    @cached_property
    def _files(self) -> list[Path]:
        if unused := sorted(set(self.columns) - {"image", "key"}):
            raise ClipshiftError(
                f"{self.path}: COCO's fields are fixed, {unused[0]!r} is not named"
            )
        found = [self.path] if self.path.is_file() else _annotations(self.path)
        for begin in ("captions", "instances"):
            if chosen := [f for f in found if f.name.startswith(begin)]:
                break
        else:
            chosen = found
        if not chosen:
            raise ClipshiftError(f"{self.path} holds no JSON of images and annotations")
        if self.path.is_dir():
            self.tell(f"annotations: {', '.join(f.name for f in chosen)}")
            self._count_left_out(chosen)
        return chosen

    def _count_left_out(self, chosen: list[Path]) -> None:
        used = {f.relative_to(self.path) for f in chosen}
        named: set[Path] = set()
        for file in chosen:
            folder = self._folder(file)
            named |= {folder / str(image.get("file_name")) for image in load(file)["images"]}
        for name in walk(self.path, self.left_out):
            if Path(name) in used or self.path / name in named:
                continue
            image = kind_of(name) in SUFFIXES
            self.left_out["image file without an entry" if image else kind_of(name)] += 1

    def units(self) -> list[Unit]:
        root = self.path if self.path.is_dir() else self.path.parent
        return [Unit(printable(str(file.relative_to(root))), (file,)) for file in self._files]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        (file,) = unit.files
        content = load(file)
        folder = self._folder(file)
        of_image: dict[Id, list[Annotation]] = {}
        for annotation in content.get("annotations", []):
            of_image.setdefault(annotation.get("image_id"), []).append(annotation)
        categories: dict[Id, str] = {c["id"]: c["name"] for c in content.get("categories", [])}
        counts: Counter[str] = Counter()
        for image in sorted(content["images"], key=lambda image: natural(str(image.get("id")))):
            key = as_text(image.get("id")) or ""
            where = f"{printable(str(file))}#image {key or 'without id'}"
            own = of_image.pop(image.get("id"), [])
            own.sort(key=lambda annotation: natural(str(annotation.get("id"))))
            captions = [text for a in own if (text := as_text(a.get("caption")))]
            labels = {
                categories[a["category_id"]] for a in own if a.get("category_id") in categories
            }
            counts["further captions of images"] += len(captions[1:])
            counts["images of several categories, which have no label"] += len(labels) > 1
            name = as_text(image.get("file_name"))
            place = locate(name, folder) if name else "entry names no image file"
            if isinstance(place, str):
                yield Rejected(key, where, place)
                continue
            yield Record(
                key,
                Place(place),
                caption=captions[0] if captions else None,
                label=as_text(labels.pop()) if len(labels) == 1 else None,
                url=as_text(image.get("coco_url")),
            )
        counts["annotations of no image"] = sum(map(len, of_image.values()))
        for what, count in counts.items():
            if count:
                self.tell(f"{unit.name}: {count:,} {what}")

    def classes(self) -> list[str] | None:
        lists = []
        for file in self._files:
            entries = load(file).get("categories", [])
            lists.append([c["name"] for c in sorted(entries, key=lambda c: natural(str(c["id"])))])
        if any(names != lists[0] for names in lists):
            raise ClipshiftError(f"{self.path}: its files name different categories")
        return lists[0] or None

    def _folder(self, file: Path) -> Path:
        """The folder of the images that a file names."""
        if "image" in self.columns:
            folder = file.parent / self.columns["image"]
            if not folder.is_dir():
                raise ClipshiftError(f"{folder}, the folder of the images, is not there")
            return folder
        names = [str(i.get("file_name")) for i in load(file)["images"][:_TRIED]]
        part = file.stem.rpartition("_")[2]  # captions_train2017: the images are in train2017
        roots = (file.parent.parent, file.parent)
        tried = [r / sub for sub in (part, f"images/{part}", "images", ".") for r in roots]
        for folder in tried:
            if any((folder / name).is_file() for name in names):
                self.tell(f"{file.name}: images in {folder}")
                return folder
        raise ClipshiftError(
            f"{file}: its images are in none of the folders beside it (e.g. {names[:1]}); name "
            "their folder, image=FOLDER"
        )


def _is_annotations(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        head = stream.read(1 << 16)
    return bool(_HEAD.match(head)) and ('"images"' in head or '"annotations"' in head)


def _annotations(folder: Path) -> list[Path]:
    found = [*folder.glob("*.json"), *folder.glob("annotations/*.json")]
    if len(found) > _MOST:
        return []  # one for each image
    return sorted(
        (f for f in found if f.is_file() and _is_annotations(f)), key=lambda f: natural(f.name)
    )


def load(file: Path) -> Annotations:
    """A file of annotations; the last one stays in memory.

    Raises:
        ClipshiftError: not of COCO's form.
    """
    return _load(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _load(file: Path, changed: int) -> Annotations:
    value = parse(file, _FORM)
    if not any(image.get("file_name") for image in value["images"]):
        raise ClipshiftError(f"{file}: its images have no `file_name`, as COCO's have")
    return value
