"""A local folder of webdataset tars: `key.jpg` (or webp, png), `key.txt`, `key.json`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.images import Undecodable
from clipshift.datasets.sources.base import Item, Rejected
from clipshift.datasets.tars import read_tar
from clipshift.study.config.data import WebdatasetSource


def read(spec: WebdatasetSource, packages: Mapping[str, Path]) -> Iterator[Item | Rejected]:
    tars = sorted(Path(spec.folder).glob("*.tar"))
    if not tars:
        raise ClipshiftError(f"no *.tar in {spec.folder}")
    for tar in tars:
        for sample in read_tar(tar):
            place = f"{tar.name}#{sample.key}"
            try:
                image = sample.image
            except Undecodable as reason:
                yield Rejected(place, str(reason))
                continue
            try:
                fields = dict(json.loads(sample.parts.get("json", b"{}")))
            except (ValueError, TypeError, RecursionError) as error:
                raise ClipshiftError(
                    f"{tar}: the json of the sample {sample.key!r} holds no fields: {error}"
                ) from error
            text = sample.parts.get("txt", b"").decode("utf-8", errors="replace").strip()
            category = str(fields.get(spec.category) or "")
            concept = str(fields.get(spec.concept) or sample.key)
            flat = {k: str(v) for k, v in fields.items() if v is not None} | {"text": text}
            try:
                "".join((category, concept, *flat, *flat.values())).encode()
            except UnicodeEncodeError:  # JSON may hold halves of characters
                yield Rejected(place, "text is not Unicode")
                continue
            yield Item(place, image, category, concept, flat)
