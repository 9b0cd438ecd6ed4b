"""The shell's words for what a library's message advises in Python.

A library does not know who calls it: its messages name functions. Whoever typed a command has options, and the other
commands. An argument's name becomes an option in `brainrdl.cli.name_options`; here is what is no single argument.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple


class _Advice(NamedTuple):
    """A piece of a message, and what takes its place in a command: by an option that it has, else by its name."""

    python: str  # a regular expression
    shell: str | Mapping[str, str]  # under "": for all other commands


_SELECT = "write those that are meant into a file of their own: brainrdl convert A B --select roi=IT, or rdm!=NAME"
_KEEP = "brainrdl convert A B --keep FILE leaves the others out"

_ADVICE = (
    _Advice(
        r"give the arrays by name, as in \{'first': rdms, 'second': others\}, and the name comes before each label",
        "give --prefix P,Q, a word for each file of models, which comes before the names of its RDMs",
    ),
    _Advice(
        r"add it: rdms\.assign_coords\(subject=\('rdm', \[\.\.\.\]\)\)",
        {
            "subjects": "give --subjects, a text file of names or a number",
            "fit": "say whose the RDMs are by subjects: below rdms:, how many people or a text file of names",
            "": "brainrdl convert A B --subjects adds it",
        },
    ),
    _Advice(r"select one of these first, such as rdms\.isel\(.*?'\), or average over it with average_rdms", _SELECT),
    _Advice(
        r"list_layers\(model\) (?:lists them all|names those there are)",
        {
            "list_layers": "--list-layers shows them all",
            "": "brainrdl rdms network --model M --list-layers shows them all",
        },
    ),
    _Advice(r"stimuli=dict\(enumerate\(ids\)\), on the command line --as-listed", "--as-listed"),
    _Advice(r"from_folder needs the folder that holds the images", "name the folder that holds the images"),
    _Advice(r", or untrained=True where random ones are meant", ""),
    _Advice(r", or select_stimuli first, leaves", " leaves"),
    _Advice(
        r"take the common ones of both with select_stimuli",
        {"join": "--shared compares just those that all files hold", "": _KEEP},
    ),
    _Advice(r"take the same stimuli in both \(brainrdl\.select_stimuli\)", f"take the same stimuli in both ({_KEEP})"),
    _Advice(r"select stimuli on both axes with select_stimuli", "write the file again"),
    _Advice(r"mirror it, (?:np\.fmax\(.*?\)\)|values \+ values\.swapaxes\(-1, -2\))", "mirror it where it was made"),
    _Advice(r": json\.dumps\(\.\.\.\)", ""),
    _Advice(r": json\.dumps turns anything else into a string", ""),
    _Advice(r", or in Python give format=", ""),
    _Advice(r"(give (?:stimuli|names)=), (\d+) strings(?= in the file's order)", r"\1, a text file with \2 lines"),
    _Advice(r"(has no field '.*?' that could hold the .*?)(?=[,;])", r"\1, nor is there a text file of that name"),
    # which a description of the file does not need
    _Advice(r"; with it give [\w= ]+, which it does not say", {"info": "", "": r"\g<0>"}),
    _Advice(
        r"(?<=\(all are NaN\) in RDM )('.*'); leave it out",
        r"\1; leave it out: brainrdl convert A B --select rdm!=NAME",
    ),
    _Advice(
        r"leave them out in Python: rdms\.drop_vars\('standard_error'\)",
        "leave them out: brainrdl convert A B --drop-standard-errors",
    ),
    _Advice(r"rename the coordinate: rdms\.rename\(\.\.\.\)", "rename the coordinate where the file was made"),
    _Advice(
        r"write_example writes one to begin with, and so does brainrdl fit when init is asked for",
        "--init writes one to begin with",
    ),
    _Advice(r"method='shrinkage_diag', in the pipeline ", ""),
    _Advice(r", or have the GLM make them \(drift_model='cosine'\)", ""),
    _Advice(r"crossnobis\(\) is unbiased", "--metric crossnobis is unbiased"),
    _Advice(r"use standard_errors\(\.\.\., method='jackknife'\)", "leave the stimulus out"),
    # of the file of measured RDMs, beside which these commands have stimuli and metrics of their own
    _Advice(r"\b(stimuli|metric)=(?=[ ,:;]|$)", {"card": r"--rdms-\1", "fit": r"\1: below rdms:", "": r"\g<0>"}),
    _Advice(r"\b(order|variable|subjects)=(?=[ ,:;]|$)", {"fit": r"\1: below rdms:", "": r"\g<0>"}),
    _Advice(r"name one: roi=", {"roi": "name one: roi=", "fit": "name one by roi: below rdms:", "": _SELECT}),
)


def in_the_shells_words(message: str, command: str, options: Collection[str]) -> str:
    """Put the shell's words in the place of a library's Python; `options` are the arguments that a command has."""
    for advice in _ADVICE:
        known = {"": advice.shell} if isinstance(advice.shell, str) else advice.shell
        words = next(text for name, text in known.items() if name in options or name in (command, ""))
        message = re.sub(advice.python, words, message)
    return message
