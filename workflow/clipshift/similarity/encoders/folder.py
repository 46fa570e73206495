"""Encoders of the kind `folder`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.similarity.encoders import SELECTS
from clipshift.study.config.encoder_base import EncoderBlock, encoder
from clipshift.study.config.names import DatasetName

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder


@encoder("folder")
class FolderEncoder(EncoderBlock):
    """Embeddings that the user has in clip-retrieval's layout, e.g. those of LAION-400M."""

    kind: Literal["folder"] = Field(description=SELECTS)
    precision: Literal["fp32"] = Field(
        default="fp32", description="Nothing is embedded: there is no other."
    )
    folders: dict[DatasetName, str] = Field(
        min_length=1,
        description="Pool or set -> its folder of `img_emb/` and `metadata/`, below `data`.",
    )
    join: Literal["image_path", "url"] = Field(
        default="image_path",
        description="Column of the metadata by which samples find their vectors: `image_path` "
        "holds our keys, `url` the samples' URLs (keys of somebody else's download are not ours).",
    )

    @property
    def vectors(self) -> dict[str, str]:
        return self.folders

    def only(self, datasets: Collection[str]) -> Self:
        folders = {name: folder for name, folder in self.folders.items() if name in datasets}
        return self.model_copy(update={"folders": folders})

    def load(self, device: "torch.device") -> "Encoder":
        raise ClipshiftError("an encoder of the kind folder has vectors, and embeds no image")
