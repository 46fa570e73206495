"""The page of all configuration keys, generated from the typed model."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from clipshift.study.config.defaults import IN_WORDS
from clipshift.study.config.study import Config

INTRODUCTION = """\
# Configuration

Generated from `workflow/clipshift/study/config/` by `clipshift config-docs --out config/README.md`;
a test keeps it in step. A configuration is one YAML file (`snakemake --configfile FILE`, default
`config/mini.yaml`); several files are merged, the later ones win. An unknown key is an error that
names the file, the key and the nearest valid one; `clipshift check FILE` says so without a run, and
opens the data that the study needs. [examples/](../examples/README.md) has four short studies to
start from.

| file | what |
|---|---|
| `mini.yaml` | the default study: real data from package registries, on a laptop |
| `mini-full.yaml` | more on the same pool: `--configfile config/mini.yaml config/mini-full.yaml` |
| `mini-urls.yaml` | a pool downloaded from a list of URLs, on top of `mini.yaml` |
| `mini-domains.yaml` | study B on the same data: `config/mini.yaml config/mini-domains.yaml` |
| `mini-causes.yaml` | study C on the mini data, on top of `mini.yaml` in the same way |
| `imagenet_captions.yaml`, `yfcc15m.yaml` | study C at the paper's scale |
| `domains-more.yaml` | as many seeds as would part its conditions; on top of both |
| `laion400m.yaml` | studies A and B at the papers' scale; the default of `--profile slurm` |
| `rehearsal.yaml` | everything but training, on synthetic pools: `make rehearsal` |
| `test.yaml` | the same rules in about two minutes, for the tests |

**Defaults.** A new study names what is its own: `study`, `pools`, `sets`, `encoders`, `models`, and
usually `splits`. `pool`, `reference`, `encoder` and `model` each name one of these blocks. They are
needed only where several could be meant; the error lists them.

**Sweeps.** A split whose name has a `{key}` is one split for each value in that key's list; `{set}`
is each of `sets` alone. Several lists give all combinations, the last list varying fastest:

```yaml
splits:
  rand_{keep}: {recipe: rand, keep: [0.25, 0.5]}                         # rand_25, rand_50
  near_{set}_{keep}: {recipe: near, sets: [val, r], keep: [12_000_000]}  # near_val_12M, near_r_12M
  pruned_{set}: {recipe: pruned, sets: {val: val, both: [val, r]}}       # names given: pruned_both
  far_{keep}:                                                            # several blocks
    - {recipe: far, sets: [val], keep: [0.5]}
    - {recipe: far, sets: [val], keep: [0.25, 0.75], seeds: []}          # made, not trained
```

A share (a float) is named by its percent (0.125: `12p5`), a count in `k`, `M` or `B` where that is
short (22_500_000: `22p5M`), a text by itself; other values need names. A name that is made twice is
an error. `domains.classifiers` has sweeps as well: `tuned_{size}: {kind: finetune, encoder: b16,
size: [2500, 5000]}` makes `tuned_2p5k` and `tuned_5k`. In the lists of `figures` and `reshard`,
a name with `*` (`near_val_*`) is all splits that fit and are trained; below `classifiers`, all
classifiers that fit.
"""


def page() -> str:
    """The whole page, as Markdown."""
    blocks: list[type[BaseModel]] = []
    _collect(Config, blocks)
    return INTRODUCTION + "".join(_section(block) for block in blocks)


def _collect(annotation: Any, blocks: list[type[BaseModel]]) -> None:
    """Blocks in the order in which a reader meets them."""
    is_block = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if is_block and annotation not in blocks:
        blocks.append(annotation)
        for field in annotation.model_fields.values():
            _collect(field.annotation, blocks)
    for argument in get_args(annotation):
        _collect(argument, blocks)


def _section(block: type[BaseModel]) -> str:
    title = "Top level" if block is Config else block.__name__
    lines = [f"\n## {title}\n", f"{(block.__doc__ or '').strip()}\n", "| key | type | default | |"]
    lines.append("|---|---|---|---|")
    for name, field in block.model_fields.items():
        default = field.default
        if block is Config and name in IN_WORDS:
            text = IN_WORDS[name]
        elif field.is_required():
            text = "required"
        elif isinstance(default, BaseModel):
            text = "see below"
        else:
            text = "" if default is PydanticUndefined else f"`{default!r}`"
        lines.append(
            f"| `{name}` | {_type(field.annotation)} | {text} | {field.description or ''} |"
        )
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if origin is None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
        return getattr(annotation, "__name__", str(annotation))
    if origin in (list, tuple):
        inner = ", ".join(dict.fromkeys(_type(a) for a in arguments))
        return f"list of {inner}"
    if origin is dict:
        return f"{{name: {_type(arguments[1])}}}"
    if all(isinstance(a, str) for a in arguments):
        return " or ".join(f"`{a}`" for a in arguments)
    return " or ".join(_type(a) for a in arguments)
