"""The typed configuration: a study is `study.Config`, its blocks are the modules beside it."""
