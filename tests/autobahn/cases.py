"""The cases of the Autobahn suite, which is written in Python 2, for Python 3.

A `str` of Python 2 holds octets. So the sources are read as Latin-1, by which a `str` of Python 3
has one character for each octet of the original; whoever runs the cases turns one into the other.
"""

import importlib.util
import pathlib
import re
import sys

# Files, what stands in them, and what should. Each must be found, or the suite is another one.
EDITS = [
    # Neither compression nor what the suite itself leaves out: they need more of it.
    ("__init__.py", r"(?m)^.*(case9_9_1|[Cc]ase1[23]_[Xx]_[Xx]).*$", ""),
    # Equal and not only made in the same way, on which a pickle depends.
    ("case.py", r"pickle\.dumps\((obj\d)\)", r"\1"),
    # A base class cannot go before what is derived from it.
    ("case[679]_*_*.py", r"\(object, Case, ?\)", "(Case,)"),
    ("case6_x_x.py", r"validate\(vss\[:i\]\)", "validate(vss[:i].encode('latin-1'))"),
    # In functions that nobody calls.
    ("case6_x_x.py", r"(?m)^( *)print\b.*$", r"\1pass"),
    # For the eyes only.
    ("case[67]_*.py", r"binascii\.b2a_hex\(", "repr("),
    ("case10_1_1.py", r"\) / self", ") // self"),
    ("case*_*.py", r"\bxrange\b", "range"),
]


def port(directory):
    """Writes the cases to a directory, as modules that import each other by their bare names."""
    spec = importlib.util.find_spec("autobahntestsuite")
    source = pathlib.Path(spec.submodule_search_locations[0], "case")
    unused = set(EDITS)
    for path in source.glob("*.py"):
        text = path.read_text(encoding="latin-1")
        for edit in EDITS:
            pattern, what, by = edit
            if path.match(pattern):
                text, count = re.subn(what, by, text)
                unused -= {edit} if count else set()
        name = "all_cases.py" if path.name == "__init__.py" else path.name
        (directory / name).write_text(text, encoding="utf-8")
    if unused:
        raise SystemExit(f"the suite has changed, there is nothing to edit: {unused}")


def load(directory):
    """All cases by their numbers, in the suite's order."""
    port(directory)
    sys.path.insert(0, str(directory))
    from all_cases import Cases

    return {case.__name__[len("Case") :].replace("_", "."): case for case in Cases}
