"""``brainrdl fit``: a student fitted to measured RDMs, with its controls, scored on what it has not seen."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from brainrdl.cli._again import Rests

_ABOUT = (
    "Fit a network to measured RDMs alongside its task, as configured in a file, and score it and its controls on "
    "held-out stimuli (and in other studies). The same command resumes an interrupted study. --init writes an example "
    "file. In Python: brainrdl.studies.fit."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = _ABOUT
    parser.set_defaults(run=_run, rests=_rests, resumable=True)
    add = parser.add_argument
    add("configuration", type=Path, metavar="CONFIG.yaml", help="configuration of the study")
    add("--init", action="store_true", help="write a commented example to CONFIG.yaml, and stop")
    text = "check the file and the data, print what would run and an estimate of the hours, and stop"
    add("--check", action="store_true", help=text)
    add("-o", "--out", type=Path, metavar="DIR", help="output folder (default: runs/NAME)")
    add("--data-dir", type=Path, metavar="DIR", help="folder with the data (default: $BRAINRDL_DATA)")
    add("--download", action="store_true", help="fetch missing data files of the task")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    text = "auto: bf16 if the processor supports it (default: auto)"
    add("--precision", default="auto", choices=("auto", "32-true", "bf16-mixed"), help=text)
    text = "CPU threads of a process (default: one, or all cores shared by --jobs if measured to be free)"
    add("--threads", type=int, metavar="N", help=text)
    add("--jobs", type=int, default=1, metavar="N", help="number of parallel processes (default: 1)")


def _rests(options: argparse.Namespace) -> Rests | None:
    from brainrdl.studies.brain.configuration import read_configuration

    if options.init or options.check:
        return None
    configuration = read_configuration(options.configuration)
    return Rests(options.out or Path("runs", configuration.name), configuration.model_dump(mode="json"))


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    # imported here: trainer, reports and figures, of which --help needs nothing
    from brainrdl.studies.brain.configuration import read_configuration, write_example

    if options.init:
        write_example(options.configuration)
        print(f"written: {options.configuration}")
        return 0
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    configuration = read_configuration(options.configuration)
    # after the file is read: one that is no study is refused at once
    from brainrdl.progress import log
    from brainrdl.studies.brain.inputs import fetch_task_images
    from brainrdl.studies.brain.study import Machine, describe_plan, fit
    from brainrdl.studies.reports.plain import fit_results

    if options.download:
        fetch_task_images(configuration, options.data_dir)
    machine = Machine(options.device, options.precision, options.threads)
    if options.check:
        print(describe_plan(configuration, options.data_dir, machine=machine))
        return 0
    report = fit(
        configuration,
        options.out or Path("runs", configuration.name),
        data_dir=options.data_dir,
        machine=machine,
        jobs=options.jobs,
        command=shlex.join(["brainrdl", *arguments]),
        log=log,
    )
    print(f"{fit_results(report.parent)}\n\nreport: {report}")
    return 0
