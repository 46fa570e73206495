"""Configuration blocks of the image encoders that measure similarity."""

from typing import Annotated, Literal

from pydantic import Field

from clipshift.study.config.data import Block
from clipshift.study.config.names import DatasetName, ModelName, SplitName


class OpenClipEncoder(Block):
    """An image encoder of open_clip."""

    kind: Literal["open_clip"] = Field(description="Selects this kind of encoder.")
    model: str = Field(description="open_clip model name, e.g. ViT-B-16-plus-240.")
    pretrained: str = Field(description="Tag of the weights, or the path of a checkpoint.")
    batch: int = Field(default=64, ge=1, description="Pictures per forward pass.")


class EfficientNetLiteEncoder(Block):
    """EfficientNet-Lite0 (ImageNet-pretrained, pooled, 1280-d); its weights are a package."""

    kind: Literal["efficientnet_lite0"] = Field(description="Selects this kind of encoder.")
    px: int = Field(default=160, ge=32, description="Input side, pixels.")
    batch: int = Field(default=32, ge=1, description="Pictures per forward pass.")


class RunEncoder(Block):
    """The image tower of a model that this study trains: a second look at similarity."""

    kind: Literal["run"] = Field(description="Selects this kind of encoder.")
    split: SplitName = Field(description="The split that it was trained on.")
    model: ModelName = Field(description="The model.")
    seed: int = Field(description="The seed.")
    batch: int = Field(default=64, ge=1, description="Pictures per forward pass.")

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-s{self.seed}"


class FolderEncoder(Block):
    """Embeddings that the user has in clip-retrieval's layout, e.g. those of LAION-400M."""

    kind: Literal["folder"] = Field(description="Selects this kind of encoder.")
    folders: dict[DatasetName, str] = Field(
        min_length=1,
        description="Pool or set -> its folder of `img_emb/` and `metadata/`, below `data`.",
    )
    join: Literal["image_path", "url"] = Field(
        default="image_path",
        description="Column of the metadata by which samples find their vectors: `image_path` "
        "holds our keys, `url` the samples' URLs (keys of somebody else's download are not ours).",
    )


Encoder = Annotated[
    OpenClipEncoder | EfficientNetLiteEncoder | RunEncoder | FolderEncoder,
    Field(discriminator="kind"),
]
