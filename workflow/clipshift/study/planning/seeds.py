"""What a study's seeds can show: the section of the plan on differences between splits."""

from collections.abc import Iterator

from clipshift.study.config.study import Config

# Differences in percentage points for which the plan says how many seeds they need.
SIZES = (5, 2, 1)


def shown(cfg: Config) -> Iterator[tuple[str, ...]]:
    """A head, then a row per test set.

    Its images, the smallest difference of two splits that the study's seeds show in four of five
    repetitions of the study, and how many seeds others need.
    """
    from clipshift.stats.power import seeds_needed, smallest
    from clipshift.study.planning.work import points

    spread = cfg.costs.training_sd, cfg.costs.disagreement
    seeds = len(cfg.seeds)
    shows = f"{seeds} seed{'s' * (seeds > 1)} show{'s' * (seeds == 1)}"
    yield ("test set", "images", shows, *(f"for {size} points" for size in SIZES))
    for name in cfg.test_sets:
        n = int(points(cfg, name))
        least = smallest(seeds, n, *spread) if seeds > 1 else None
        needed = [seeds_needed(size / 100, n, *spread) for size in SIZES]
        yield (
            name, f"{n:,}",
            "no difference" if least is None else f"{100 * least:.1f} points",
            *("no number" if number is None else str(number) for number in needed),
        )  # fmt: skip
