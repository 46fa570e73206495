"""Words of the command line that a job on a node is started with.

Snakemake writes them as Python literals, and Python's own path as it is; a shell reads them. Of
`--config "data=it's in $HOME"` it would take `$HOME` for a variable, and a folder with a blank for
two words.
"""

import shlex
from typing import Any

import snakemake_executor_plugin_slurm_jobstep as jobstep
from snakemake_interface_executor_plugins import utils
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

_VALUE = utils.format_cli_value
_PYTHON, _PYTHON_OF_STEP = (
    RemoteExecutor.get_python_executable,
    jobstep.Executor.get_python_executable,
)


def _value(value: Any, quote: bool = False, base64_encode: bool = False) -> str:
    if isinstance(value, str) and quote and not base64_encode:
        return shlex.quote(value)
    return str(_VALUE(value, quote, base64_encode))


def quote_words() -> None:
    """From here on words are quoted for a shell; said in every process that starts such jobs."""
    utils.format_cli_value = _value
    RemoteExecutor.get_python_executable = lambda self: shlex.quote(_PYTHON(self))
    jobstep.Executor.get_python_executable = lambda self: shlex.quote(_PYTHON_OF_STEP(self))
