"""Configurations, checkpoints, and what `clipshift inspect` and `init` read."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.conftest import ROOT
from tests.folder_case import write_classes
from tests.fuzz.reader import MustRefuse, Reader, cli


class _Strict(yaml.SafeLoader):
    """PyYAML that refuses what stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != merge]
        if len(set(map(str, keys))) < len(keys):
            raise MustRefuse("a key stands twice")
        return super().construct_mapping(node, deep)


def plainly(path: Path) -> Any:
    return yaml.load(path.read_bytes().decode("utf-8-sig"), Loader=_Strict)


class Check(Reader):
    """`clipshift check`: what is valid has the values of the file."""

    name = "check.configuration"
    source = "test.yaml"

    def build(self, folder: Path) -> None:
        (folder / "c.yaml").write_bytes((ROOT / "config" / self.source).read_bytes())

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.study.config.load import load

        config = load(folder / "c.yaml")
        dumped = json.loads(config.model_dump_json())
        cli("check", folder / "c.yaml", "--keys-only")
        return {k: dumped[k] for k in ("study", "seeds") if k in dumped} | {
            "splits": sorted(dumped["splits"]), "sources": sorted(dumped.get("sources") or {}),
        }  # fmt: skip

    def truth(self, folder: Path) -> Any:
        given = plainly(folder / "c.yaml")
        found = {k: given[k] for k in ("study", "seeds") if k in given}
        return found | {
            "splits": sorted(given["splits"]), "sources": sorted(given.get("sources") or {}),
        }  # fmt: skip

    def agrees(self, found: Any, wanted: Any) -> bool:
        return all(found.get(key) == value for key, value in wanted.items())


class Settle(Reader):
    """Which checkpoint a training continues from."""

    name = "ckpt.settle"
    names_input = False  # a damaged one is passed over

    def build(self, folder: Path) -> None:
        for part in (1, 2):
            state = {"epoch": part, "state_dict": {"w": torch.full((3, 3), float(part))}}
            torch.save(state, folder / f"epoch_{part}.pt")
        torch.save(state, folder / "epoch_latest.pt")

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.training.checkpoints import LATEST, settle

        part = settle(folder)
        if part is None:
            return {"part": 0, "weight": 0.0}
        state = torch.load(folder / LATEST, weights_only=True)
        return {"part": part, "weight": float(state["state_dict"]["w"].mean())}

    def truth(self, folder: Path) -> Any:
        whole = [0]
        for path in folder.glob("*.pt"):
            try:
                state = torch.load(path, weights_only=True)
                whole.append(int(state["epoch"]))
            except Exception:
                continue
        return {"part": max(whole), "weight": float(max(whole))}

    def agrees(self, found: Any, wanted: Any) -> bool:
        return found in (wanted, {"part": 1, "weight": 1.0})  # an older whole one is right, too


class Tower(Reader):
    """Weights of another run as the start of a tower."""

    name = "ckpt.tower"

    def build(self, folder: Path) -> None:
        torch.manual_seed(0)
        torch.save(self.model().state_dict(), folder / "w.pt")

    @staticmethod
    def model() -> Any:
        model = torch.nn.Module()
        model.visual = torch.nn.Linear(4, 3)
        return model

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.training.init_tower import start_vision

        model = self.model()
        start_vision(model, folder / "w.pt")
        return {k: v.tolist() for k, v in model.state_dict().items()}

    def truth(self, folder: Path) -> Any:
        state = torch.load(folder / "w.pt", weights_only=True)
        return {k: v.float().tolist() for k, v in state.items()}

    def agrees(self, found: Any, wanted: Any) -> bool:
        trimmed = {re.sub(r"^(module\.|_orig_mod\.)+", "", k): v for k, v in wanted.items()}
        return str(found) == str(trimmed)  # NaN is NaN


class Inspect(Reader):
    """`clipshift inspect` of a folder of classes, and of a table."""

    name = "inspect.folder"

    def build(self, folder: Path) -> None:
        write_classes(folder / "data", 6)

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.formats import open_dataset
        from clipshift.datasets.records import Record

        cli("inspect", folder / "data", "--page", out / "page.html")
        cli("init", folder / "data", "--out", out / "study.yaml")
        data = open_dataset(folder / "data")
        found = [f for _, f in data.all_records()]
        return {
            "records": {f.key: f.label for f in found if isinstance(f, Record)},
            "other": data.left_out.total() + sum(not isinstance(f, Record) for f in found),
        }

    def truth(self, folder: Path) -> Any:
        found = {}
        for path in sorted((folder / "data").rglob("*.jpg")):
            if path.is_file():
                found[path.relative_to(folder / "data").with_suffix("").as_posix()] = (
                    path.parent.name
                )
        return {"records": found, "other": 0}

    def agrees(self, found: Any, wanted: Any) -> bool:
        """By label and number: keys may keep their suffix."""
        there = {k.removesuffix(".jpg"): v for k, v in found["records"].items()}
        wished = {k.removesuffix(".jpg"): v for k, v in wanted["records"].items()}
        return there.items() <= wished.items() and (len(there) + found["other"] >= len(wished))
