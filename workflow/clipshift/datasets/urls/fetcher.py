"""Run img2dataset on one list within our limits. Runs in img2dataset's own environment.

`python -m clipshift.datasets.urls.fetcher SETTINGS.json`. It uses img2dataset's downloader, resizer
and writer, one block of the list after the other, in one process with many threads. Of clipshift it
imports what needs no package. A block is done when its `_stats.json` is there; a block that a kill
left half written is fetched again.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipshift.core.processes import die_with_parent
from clipshift.datasets.urls.addresses import Policy
from clipshift.datasets.urls.paths import BLOCK_DIGITS
from clipshift.datasets.urls.web import opener

# As `clipshift.datasets.images` has it: a larger image is refused by its header.
MAX_PIXELS = 89_478_485
_BAND = 1 << 20  # pixels whose transparency is resolved at once


def stats(folder: Path, block: int) -> Path:
    return folder / f"{block:0{BLOCK_DIGITS}d}_stats.json"


def _on_white(image: Any) -> Any:
    """(h, w, 3) uint8 of (h, w, 4), to the bit as img2dataset's resizer has it.

    In bands of rows: it takes some 60 bytes a pixel, of which a small file may have millions.
    """
    import numpy as np

    out = np.empty((*image.shape[:2], 3), np.uint8)
    rows = max(1, _BAND // image.shape[1])
    for top in range(0, len(image), rows):
        band = image[top : top + rows]
        alpha = band[:, :, 3, np.newaxis]
        mixed = alpha / 255 * band[..., :3] + 255 - alpha
        out[top : top + rows] = np.rint(mixed.clip(min=0, max=255)).astype(np.uint8)
    return out


def bounded(imdecode: Callable[..., Any]) -> Callable[..., Any]:
    """OpenCV's decoder, with transparency resolved before the resizer does it at once."""

    def decode(data: Any, flags: int) -> Any:
        image = imdecode(data, flags)
        transparent = image is not None and image.ndim == 3 and image.shape[-1] == 4
        return _on_white(image) if transparent else image

    return decode


def _downloader(settings: dict[str, Any]) -> Any:
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)  # read when it is imported
    import cv2  # type: ignore[import-not-found]
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    cv2.imdecode = bounded(cv2.imdecode)
    resizer = Resizer(
        image_size=settings["px"],
        resize_mode=settings["resize"],
        resize_only_if_bigger=True,
        min_image_size=settings["min_px"],
    )
    return Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=resizer,
        thread_count=settings["threads"],
        save_caption=False,
        extract_exif=False,
        output_folder=settings["folder"],
        column_list=["sample", "url"],
        timeout=settings["timeout"],
        number_sample_per_shard=settings["block"],
        oom_shard_count=BLOCK_DIGITS,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=settings["retries"],
        user_agent_token="clipshift",
        disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
    )


def main() -> None:
    die_with_parent()
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(settings["folder"])
    policy = Policy.of(settings["allow"])
    urllib.request.install_opener(opener(policy, settings["timeout"], settings["max_bytes"]))
    download = _downloader(settings)
    with pq.ParquetFile(settings["todo"]) as todo:
        blocks = -(-todo.metadata.num_rows // settings["block"])
        for block, batch in enumerate(todo.iter_batches(settings["block"])):
            if stats(folder, block).exists():
                continue
            rows = folder / f"{block}.arrow"  # img2dataset removes it
            with pa.ipc.new_file(str(rows), batch.schema) as writer:
                writer.write_batch(batch)
            download.download_shard((block, str(rows)))
            counts = json.loads(stats(folder, block).read_text())
            images = f"{counts['successes']} of {counts['count']} URLs gave an image"
            took = f"{counts['end_time'] - counts['start_time']:.0f} s"
            print(f"block {block + 1} of {blocks}: {images}, {took}", flush=True)


if __name__ == "__main__":
    main()
