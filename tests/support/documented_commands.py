"""What the pages of the site tell people to type, and how each of it is tried.

As a script: a table of all of it, by the way in which it is tried.

========= ====================================================================================
run       by the program itself, bash, Python or R, in a folder that has what the pages speak of
stand-in  the line itself, with a program on the path that stands for one which is not here: a
          container engine, a scheduler, a viewer. It takes the options that the line uses, looks
          at the files, undoes binds and has the app do the work. (`make test-hpc` has a real Slurm.)
Slurm     by `make test-hpc` alone, on a real Slurm
installed by `make test-install` alone, which sets up environments from a clone, as the pages tell
========= ====================================================================================
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>console|python|r)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)
WAYS = {
    "run": ("bids-hsf", "hsf-hub", "hsf-compat", "cut", "export", "head", "ls", "mkdir", "printf", "python", "r"),
    "stand-in": ("docker", "apptainer", "sbatch", "itksnap", "freeview", "fsleyes", "Slicer", "antsApplyTransforms"),
    "installed": ("git", "python3", ".", "pip"),
}


@dataclass(frozen=True)
class Block:
    """One block of a page: commands with what they answer, or code.

    Attributes
    ----------
    page : Path
    language : str
        "console", "python" or "r".
    text : str
    """

    page: Path
    language: str
    text: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands, each with the lines that are to be seen after it; lines that end with a backslash are joined."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line:
                assert found, f"{self.page.name}: {line!r} stands before any command"
                found[-1][1].append(line)
        return found


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in its order."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.M)
        found.append(Block(page, match["language"], body))
    return found


def way(command: str) -> str:
    """How a command, or a block of another language, is tried."""
    program = re.split(r"[ =]", command.partition("=$(")[2] or command)[0]
    if "--dask-jobqueue" in command:
        return "Slurm"
    if command.startswith("hsf-hub quantize"):  # needs an extra of its own, and many seconds
        return "installed"
    for how, programs in WAYS.items():
        if program in programs:
            return how
    raise AssertionError(f"nobody knows how to try {command!r}")


def told_before(page: Path, command: str) -> bool:
    """Whether the page of the first scan tells the same, where it is tried: the front page and the README do."""
    first = [told for block in blocks(DOCS / "first-scan.md") for told, _ in block.commands]
    return page.stem in ("index", "README") and command in first


def everything() -> Iterator[tuple[str, str, str]]:
    """Page, way and text of all that is told to be typed."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                yield from ((page.name, way(command), command) for command, _ in block.commands)
            else:
                yield page.name, way(block.language), f"{block.language} block"


def counts() -> dict[str, int]:
    """How many are tried in each way."""
    return Counter(how for _, how, _ in everything())


if __name__ == "__main__":
    for name, how, text in everything():
        print(f"{name:20} {how:10} {text}")
    print(*sorted(counts().items()))
