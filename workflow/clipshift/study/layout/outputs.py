"""Where the outputs of figures lie."""

# Kinds that are tables only.
TABLES = ("pruned", "domain_detectors", "domain_composition", "domain_clean")


def figure_outputs(kind: str, name: str) -> list[str]:
    """What the report needs of a figure."""
    table = f"results/tables/{kind}_{name}.csv"
    if kind == "accuracy_vs_similarity":
        return [figure_path(kind, name), table, table.replace(".csv", ".rho.csv")]
    return [table] if kind in TABLES else [figure_path(kind, name), table]


def figure_path(kind: str, name: str) -> str:
    return f"results/figures/{kind}_{name}.svg"
