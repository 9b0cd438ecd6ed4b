"""The shell's words: what is advised at a shell can be typed there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import brainrdl
from brainrdl.cli._words import in_the_shells_words

PACKAGE = Path(brainrdl.__file__).parent
# what no command reaches: functions that are called from Python alone
IN_PYTHON = (
    *("teachers", "terms", "training", "plots", "models.py", "fmri/uncertainty.py", "fmri/distances.py"),
    *("fmri/images.py", "fmri/simulation.py", "fmri/searchlight.py", "features/networks.py", "rdms/axes.py"),
    *("rdms/patterns.py", "rdms/condensed.py", "rdms/compare.py", "inference/reweighting", "inference/controls.py"),
    *(
        "inference/held_out.py",
        "stimuli/stimulus_set.py",
        "data/images.py",
        "data/infimnist.py",
        "ids.py",
        "rdms/layers.py",
    ),
)
# advice on code of one's own, or that a file was made with: it is mended there
OWN_CODE = (
    "np.savez(path, ",
    "pandas.read_csv(path",
    "numpy.loadtxt(path",
    "save('one.mat'",
    "model.state_dict()",
    "torch.save(model.state_dict()",
    "torch.serialization.set_crc32_options",
    "x.sub_(mean)",
    "network.to(",
    "images.to(",
    "call the model",
    "rdm(triu(true(n), 1))",
    "factory=",
    # of labelled arrays, as no file that is read leaves them
    "dict(enumerate(ids))",
    "label_rdms makes",
    "use label_rdms",
    "rdms.sel(rdm=['IT'])",
    "rdms.rename('dissimilarity')",
    "rdms.attrs['metric']",
    "=('rdm', [...]))",
    "concat_rdms([a, b])",
    "rdms.drop_vars(",
    "with drop_vars",
)
ADVICE = re.compile(
    r"\b(?!subject\()[\w.]+\((?=[\w'\"\[.*{)])(?!s\)|n\)|-?n|rdms,|pairs|triangle|\d)|\brdms\.(?!nc\b)\w+|\bnp\.\w+|json\.dumps|select_stimuli"
    r"|list_layers|drop_vars|untrained=|init is asked"
)


def texts(node: ast.AST) -> Iterator[str]:
    """The texts below a node, ``subject`` for each value in them."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "subject" for part in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def messages() -> list[tuple[str, str]]:
    """What modules that commands reach raise, warn of, or make such texts of: every text in a function's body."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith((*IN_PYTHON, "cli/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                found += [(place, text) for line in body for text in texts(line) if len(text.split()) > 3]
    return found


def test_no_message_advises_python_at_a_shell() -> None:
    found = messages()
    assert len(found) > 500
    left = []
    for command in ("compare", "convert", "fit", "card", "rdms", "reproduce"):
        for place, message in found:
            shown = in_the_shells_words(message, command, ())
            if (advice := ADVICE.search(shown)) and not any(code in shown for code in OWN_CODE):
                left.append((place, advice.group(), shown))
    assert left == []
