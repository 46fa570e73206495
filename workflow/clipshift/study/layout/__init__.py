"""Where the files of a study lie, by its configuration: `study.Layout` and its parts."""
