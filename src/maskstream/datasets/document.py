"""The catalogue as a page: ``docs/datasets.md`` is what `catalogue_page` gives."""

from __future__ import annotations

from .catalogue import DATASETS
from .dataset import DatasetInfo

_HEAD = """# Data sets

Every data set that is read, and the results that go with it. Nothing is downloaded: get the data from the pages named
here, and mind the licences. This page is written by `maskstream datasets --markdown`.

```bash
maskstream datasets NAME --root DIR                        # what it is, how it is laid out, what was found
maskstream predict NAME --root DIR -o OUT                  # a model over it, in the layout its server takes
maskstream evaluate NAME --root DIR --pred OUT             # the official numbers; needs no pictures
```

`synthetic-TASK:v1-LEVEL-seedS` names a rendered set for every task, with the layout and the metric of the benchmark
of that task; it needs no folder ([more](synthetic.md)).

"""


def catalogue_page() -> str:
    """All data sets in Markdown: a table, then a section each."""
    rows = ["| name | data set | tasks | splits |", "|---|---|---|---|"]
    for info in DATASETS.values():
        tasks = ", ".join(task.value for task in info.tasks)
        rows.append(f"| [`{info.name}`](#{_anchor(info.name)}) | {info.title} | {tasks} | {', '.join(info.splits)} |")
    return _HEAD + "\n".join(rows) + "\n" + "".join(map(_section, DATASETS.values()))


def _section(info: DatasetInfo) -> str:
    lines = [
        f"\n## {info.name}\n",
        f"{info.title}. {info.about}\n",
        f"Home: {info.home}. Licence: {info.licence}.\n",
        f"```\n{info.layout.strip()}\n```\n",
        f"Results:\n\n```\n{info.results.strip()}\n```",
    ]
    if info.notes:
        lines += ["", *(f"* {note}" for note in info.notes)]
    return "\n".join(lines) + "\n"


def _anchor(name: str) -> str:
    return name.replace(".", "")
