"""Pools in object storage: the objects of a job, and whether they can be had at all.

Snakemake's S3 plugin takes a bucket that does not answer for an empty one, so its message would be
thousands of missing files; here it is asked once, before anything is planned. Imported while the
Snakefile is parsed, by studies with such a pool alone.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from clipshift.core.brace_ranges import spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.step import ROOT
from clipshift.study.config.folders import STORED, StoredPool

PLUGIN = "snakemake_storage_plugin_s3"
# Where `make storage` installs it.
HOME = ROOT / ".venv-storage"
# What a status of S3's means for a bucket; other errors explain themselves.
MEANINGS = {
    "403": "the credentials are wrong, or may not list it (s3:ListBucket)",
    "404": "there is no such bucket; is --storage-s3-endpoint-url the right one?",
}


def objects(
    pools: Mapping[str, StoredPool], words: Iterable[str], suffixes: Iterable[str]
) -> list[str]:
    """The objects behind some words: these files of each number that has a tar.

    >>> pool = StoredPool(storage="s3://b/web", tars=3, shards=1, samples=9, gaps=[1])
    >>> objects({"web": pool}, ["s3://b/web/{00000..00002}.tar", "other.tar"], [".tar"])
    ['s3://b/web/00000.tar', 's3://b/web/00002.tar']
    """
    gaps = {pool.storage: set(pool.gaps) for pool in pools.values()}
    parts = [word.rpartition("/") for word in words if word.startswith(STORED)]
    names = ((place, tar.stem) for place, _, tars in parts for tar in spread(tars))
    there = [f"{place}/{name}" for place, name in names if int(name) not in gaps[place]]
    return [f"{name}{suffix}" for name in there for suffix in suffixes]


def check(pools: Mapping[str, StoredPool], storage: Any, ask: bool) -> None:
    """Whether the plugin is installed and, if asked for, every bucket answers.

    Args:
        storage: Snakemake's own, which knows endpoint and credentials.

    Raises:
        ClipshiftError: no plugin, no credentials, refused ones, no such bucket, or no answer.
    """
    for name, pool in pools.items():
        key = f"pools.{name}.storage"
        if find_spec(PLUGIN) is None:
            raise ClipshiftError(
                f"{key}: objects are fetched by a plugin of Snakemake's that Python does not find; "
                f"`make storage` once, and export PYTHONPATH={HOME} in every shell"
            )
        if ask:
            _ask(key, storage.s3(pool.storage).flags["storage_object"])


def _ask(key: str, thing: Any) -> None:
    """Ask for the bucket of an object of the plugin's."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    where = f"{key}: the bucket {thing.bucket} cannot be read"
    try:
        thing.provider.s3c.meta.client.head_bucket(Bucket=thing.bucket)
    except NoCredentialsError:
        raise ClipshiftError(
            f"{where} without credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE to a profile of ~/.aws/credentials"
        ) from None
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        raise ClipshiftError(f"{where}: {MEANINGS.get(code, error)}") from None
    except BotoCoreError as error:
        raise ClipshiftError(f"{where}: {error}") from None
