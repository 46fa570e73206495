"""Configuration blocks of the image encoders: those of `similarity.encoders`, a file each."""

from typing import TYPE_CHECKING

from clipshift.study.config.encoder_base import EncoderBlock, encoder

if TYPE_CHECKING:
    Encoder = EncoderBlock
else:
    Encoder = encoder.union("kind")
