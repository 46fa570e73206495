"""Names of blocks, and references to them: a name that is another block's says so in its type."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

# Files are named by three of them at most, and a file's name has 255 bytes.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9_]*$", max_length=80)]


def as_name(text: str) -> str:
    """A valid name made of any text, such as a folder's.

    >>> as_name("My photos (2024)"), as_name("n01440764")
    ('my_photos_2024', 'n01440764')
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "data"


@dataclass(frozen=True)
class Ref:
    """Marks a text as the name of something of a kind; `study.known` has the names of each."""

    kind: str


PackageName = Annotated[Name, Ref("package")]
SourceName = Annotated[Name, Ref("source")]
ClassName = Annotated[str, Ref("class")]
PoolName = Annotated[Name, Ref("pool")]
SetName = Annotated[Name, Ref("set")]
TestSetName = Annotated[Name, Ref("test set")]
# A test set, or one of fewer classes.
MeasuredSetName = Annotated[Name, Ref("measured set")]
# A pool or a labelled set.
DatasetName = Annotated[Name, Ref("dataset")]
EncoderName = Annotated[Name, Ref("encoder")]
ModelName = Annotated[Name, Ref("model")]
SplitName = Annotated[Name, Ref("split")]
TrainedSplit = Annotated[Name, Ref("trained split")]
# A split whose training data has neighbours: all of the reference set is part of it, or none.
WholeSplit = Annotated[Name, Ref("whole split")]
PrunedSplit = Annotated[Name, Ref("pruned split")]
# A split of all points of the pool that are no duplicates.
FullSplit = Annotated[Name, Ref("split of the whole pool")]
UnsizedSplit = Annotated[Name, Ref("split of no fixed size")]
# A split, the pool or the reference set.
BaseName = Annotated[Name, Ref("base")]
ClassifierName = Annotated[Name, Ref("classifier")]
CleanSetName = Annotated[Name, Ref("clean set")]
CorpusName = Annotated[Name, Ref("corpus")]
MatcherName = Annotated[Name, Ref("matcher")]
ProtocolName = Annotated[Name, Ref("evaluation protocol")]
# Runs that differ in their seed only: `split`, `split-model` or `split-model-protocol`.
ConditionName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][A-Za-z0-9_]*(-[a-z0-9][A-Za-z0-9_]*){0,2}$"),
    Ref("condition"),
]
