"""The table of models as a page: ``docs/models.md`` is what `models_page` gives."""

from __future__ import annotations

from maskstream.types import Task

from .model_catalogue import NOT_STATED, Fact, KnownModel, known_models

_HEAD = """# Models

All models that commands take by name: those in the package, methods that need no weights, and models of the hub that
are known to work here. Others of their families work, too, and so does the path of a folder. This page is written by
`maskstream models --markdown`.

```bash
maskstream models                       # the same, with what of it is on this machine; --json for programs
maskstream models NAME                  # all about one
maskstream pull OWNER/MODEL             # fetch it; sizes and digests are compared with those of the hub
```

What is in the package works offline. A model of the hub is fetched when it is first used, or by `maskstream pull`, and
works offline from then on; where the hub cannot be reached, a message says what to copy. Weights are read from
safetensors alone.

"""

_TASKS = """## Tasks

What each makes possible. Any system can do more with other parts: `deva` follows whatever a segmenter finds.

"""

_DETAILS = """
## What is known of them

Sizes are millions of parameters. Data are what weights were trained on, as their authors published it: mind what a
model has seen when it is evaluated. Where something is not known for certain, it is not stated. A licence that only the
page of a model tells is to be read there. What is marked ¹ was not checked against a page of those who publish it.

"""

_DIGESTS = """
## Weights in the package

"""


def models_page() -> str:
    """All models in Markdown: what they can do, what is known of them, digests of those in the package."""
    models = known_models()
    tasks = [f"| `{m.name}` | {' | '.join('✓' if task in m.tasks else '' for task in Task)} |" for m in models]
    details = [
        f"| `{m.name}` | {m.about} | {', '.join(f'`{option}`' for option in m.options)} | {m.label_space} | "
        f"{_number(m)}{_mark(m, 'size')} | {m.licence}{_mark(m, 'licence')} | {data_of(m)}{_mark(m, 'data')} | "
        f"{m.origin} |"
        for m in models
    ]
    digests = [f"| `{m.name}` | {m.nbytes} | `{digest}` |" for m in models if (digest := m.sha256) is not None]
    return (
        _HEAD
        + _TASKS
        + _table(["model", *(task.value for task in Task)], tasks)
        + _DETAILS
        + _table(["model", "what it does", "used as", "labels", "size", "licence", "data", "origin"], details)
        + _DIGESTS
        + _table(["name", "bytes", "SHA-256"], digests)
    )


def size_of(model: KnownModel) -> str:
    """How many parameters, in words."""
    if model.parameters is None:
        return f"size {NOT_STATED}"
    return f"{model.parameters:.1f} M parameters" if model.parameters else "no weights"


def data_of(model: KnownModel) -> str:
    """What it was trained on, in words."""
    if model.seen is None:
        return NOT_STATED
    return ", ".join(model.seen) or "no benchmark"


def _mark(model: KnownModel, fact: Fact) -> str:
    return " ¹" if fact in model.unchecked else ""


def _number(model: KnownModel) -> str:
    if model.parameters is None:
        return NOT_STATED
    return f"{model.parameters:.1f}" if model.parameters else "none"


def _table(head: list[str], rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows]) + "\n"
