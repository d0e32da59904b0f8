"""Ports the cases of the Autobahn suite, which are written in Python 2, to Python 3.

A `str` of Python 2 holds bytes. Therefore the sources are read as Latin-1, so that a `str` of Python 3
has one character for each byte of the original; suite.py converts between the two.
"""

import importlib.util
import pathlib
import re
import sys

# The edits to the sources: file pattern, regular expression, replacement. Each must match somewhere;
# otherwise this is a version of the suite that the edits were not written for.
EDITS = [
    # Leave out the cases of compression, which is not supported, and the one that the suite itself does
    # not run. They would import more of the suite.
    ("__init__.py", r"(?m)^.*(case9_9_1|[Cc]ase1[23]_[Xx]_[Xx]).*$", ""),
    # Compare the objects. Equal objects may have different pickles.
    ("case.py", r"pickle\.dumps\((obj\d)\)", r"\1"),
    # In Python 3 a base class must not precede a class that is derived from it.
    ("case[679]_*_*.py", r"\(object, Case, ?\)", "(Case,)"),
    ("case6_x_x.py", r"validate\(vss\[:i\]\)", "validate(vss[:i].encode('latin-1'))"),
    # Remove print statements. They are in functions that are never called.
    ("case6_x_x.py", r"(?m)^( *)print\b.*$", r"\1pass"),
    # Only for output.
    ("case[67]_*.py", r"binascii\.b2a_hex\(", "repr("),
    # Integer division, and names of Python 3.
    ("case10_1_1.py", r"\) / self", ") // self"),
    ("case*_*.py", r"\bxrange\b", "range"),
]


def port(directory):
    """Writes the edited cases to a directory, as modules that import each other by their bare names."""
    spec = importlib.util.find_spec("autobahntestsuite")
    source = pathlib.Path(spec.submodule_search_locations[0], "case")
    unused = set(EDITS)
    for path in source.glob("*.py"):
        text = path.read_text(encoding="latin-1")
        for edit in EDITS:
            pattern, expression, replacement = edit
            if path.match(pattern):
                text, count = re.subn(expression, replacement, text)
                unused -= {edit} if count else set()
        name = "all_cases.py" if path.name == "__init__.py" else path.name
        (directory / name).write_text(text, encoding="utf-8")
    if unused:
        raise SystemExit(f"cases.py: edits that match nothing in this version of the suite: {unused}")


def load(directory):
    """Returns all case classes by their numbers, in the order of the suite."""
    port(directory)
    sys.path.insert(0, str(directory))
    from all_cases import Cases

    return {case.__name__[len("Case") :].replace("_", "."): case for case in Cases}
