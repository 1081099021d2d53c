"""Published tables again, for whoever has the data and the authors' weights.

    python benchmarks/reproduce.py deva TABLE --weights DEVA-propagation.pth --root ROOT -o OUT
        [--segmenter NAME] [--split SPLIT] [--workers 1]

Runs ``maskstream predict`` and ``maskstream evaluate`` with the settings of the paper, shows both commands, and prints
what was measured beside what was published. Both continue where they were stopped.

TABLE is one of

    S1          VOS: DAVIS-2017 val (MOSE and YouTube-VOS keep the annotation of theirs: predict, and send it there)
    1, 1-online VPS: VIPSeg val, semi-online and online; published with Mask2Former R50 fine-tuned on VIPSeg
    2, 2-online open world: BURST val; published with Mask2Former Swin-L
    3, 3-paper  sentences: Ref-DAVIS17 val, as the authors' program has it (5 key frames, the sentences of a person
                jointly) and as the paper says (10, each alone); published with ReferFormer Swin-L
    3-ytvos     sentences: Ref-YouTube-VOS, for its server
    4, 4-official unsupervised: DAVIS-2017 val, with the first 20 objects as in the paper, and as the program counts;
                published with EntitySeg
    4-single    unsupervised: DAVIS-2016 val, one object that stands out; published with DIS
    5-…         VPS with n2, n4 or n5 frames that vote, merged every d3 or d7 frames, or unaligned
    S6          VIS: YouTube-VIS 2019, online, for its server; published with Mask2Former R50
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Table:
    """A row of a table of DEVA (Cheng et al., ICCV 2023).

    Attributes:
        dataset: as `maskstream datasets` names it.
        task: what is done.
        published: percent, by the name of the value in the report of ``maskstream evaluate``.
        words: options of ``maskstream predict``.
        segmenter: what image-level model the numbers are of; None where masks are given.
        kept: the benchmark keeps its annotation: what is predicted goes to its server.
    """

    dataset: str
    task: str
    published: Mapping[str, float]
    words: tuple[str, ...] = ()
    segmenter: str | None = None
    kept: bool = False


VIPSEG_MODEL = "Mask2Former R50 fine-tuned on VIPSeg"
BURST_MODEL = "Mask2Former Swin-L, COCO instances"
SENTENCE_MODEL = "ReferFormer Swin-L; a segmenter here that reads"
OFFICIAL = ("--compat", "official")
UNSUPERVISED = "davis-2017-unsupervised"
TABLE_5 = {
    "n2": (36.3, 39.0, ("--voting-frames", "2")),
    "n4": (38.5, 42.3, ("--voting-frames", "4")),
    "n5": (38.3, 42.8, ("--voting-frames", "5")),
    "d3": (38.4, 42.6, ("--detection-every", "3")),
    "d7": (35.7, 40.5, ("--detection-every", "7")),
    "unaligned": (32.8, 33.7, ("--alignment", "none")),
}
TABLES = {
    "S1": Table("davis-2017", "vos", {"J&F-Mean": 87.6, "J-Mean": 84.2, "F-Mean": 91.0}),
    "1": Table("vipseg", "vps", {"VPQ_deva": 38.3, "STQ": 41.5}, ("--schedule", "semi-online"), VIPSEG_MODEL),
    "1-online": Table("vipseg", "vps", {"VPQ_deva": 36.4, "STQ": 41.1}, ("--schedule", "online"), VIPSEG_MODEL),
    "2": Table("burst", "owvs", {"OWTA_all": 69.9}, ("--schedule", "semi-online"), BURST_MODEL),
    "2-online": Table("burst", "owvs", {"OWTA_all": 69.5}, ("--schedule", "online"), BURST_MODEL),
    "3": Table("ref-davis", "refvos", {"J&F-Mean": 66.3}, OFFICIAL, SENTENCE_MODEL),
    "3-paper": Table("ref-davis", "refvos", {"J&F-Mean": 66.3}, ("--key-frames", "10"), SENTENCE_MODEL),
    "3-ytvos": Table("ref-ytvos", "refvos", {"J&F": 66.0}, OFFICIAL, SENTENCE_MODEL, kept=True),
    "4": Table(UNSUPERVISED, "uvos", {"J&F-Mean": 73.4}, (), "EntitySeg"),
    "4-official": Table(UNSUPERVISED, "uvos", {"J&F-Mean": 73.4}, OFFICIAL, "EntitySeg"),
    "4-single": Table("davis-2016", "uvos", {"J&F-Mean": 88.9}, ("--schedule", "offline", *OFFICIAL), "DIS"),
    **{
        f"5-{name}": Table("vipseg", "vps", {"VPQ_deva": vpq, "STQ": stq}, words, VIPSEG_MODEL)
        for name, (vpq, stq, words) in TABLE_5.items()
    },
    "S6": Table("ytvis-2019", "vis", {"AP": 40.8, "AP75": 44.3}, (), "Mask2Former R50", kept=True),
}


def commands(table: Table, options: argparse.Namespace) -> Iterator[list[str]]:
    """What is run."""
    data = [table.dataset, "--root", str(options.root), "--task", table.task]
    data += ["--split", options.split] if options.split else []
    predict = [*data, "-o", str(options.output), "--propagator", str(options.weights), "--exact", "--dtype", "fp32"]
    predict += ["--alignment", "network", *table.words, "--workers", str(options.workers)]
    segmenter = ["--segmenter", options.segmenter] if options.segmenter else []
    yield ["predict", *predict, *segmenter, *(["--zip"] if table.kept else [])]
    if not table.kept:
        yield ["evaluate", *data, "--pred", str(options.output), "--json", str(report_of(options)), "--quiet"]


def report_of(options: argparse.Namespace) -> Path:
    """Where ``maskstream evaluate`` puts its numbers."""
    path: Path = options.output / "scores.json"
    return path


def measured(report: Path) -> dict[str, float]:
    """Percent, by the name of the value; of all metrics of a report."""
    reports = json.loads(report.read_text(encoding="utf-8"))["reports"]
    return {
        name: 100 * value for each in reports.values() for name, value in each["values"].items() if value is not None
    }


def main() -> None:
    """Run a table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["deva"])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--weights", type=Path, required=True, help="the authors' DEVA-propagation.pth")
    parser.add_argument("--root", type=Path, required=True, help="of the data set")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--segmenter", help="the image-level model, a folder or a name on the hub")
    parser.add_argument("--split", help="another part of the data set than its first")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    table = TABLES[options.table]
    if table.segmenter and not options.segmenter:
        parser.error(f"table {options.table} needs an image-level model; published with {table.segmenter}: --segmenter")
    if table.segmenter is None and options.segmenter:
        parser.error(f"in table {options.table} masks are given: leave out --segmenter")
    for words in commands(table, options):
        print(f"$ maskstream {shlex.join(words)}", file=sys.stderr)
        done = subprocess.run([sys.executable, "-m", "maskstream", *words], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
    if table.kept:
        published = ", ".join(f"{name} {value}" for name, value in table.published.items())
        print(f"send {options.output / 'results.zip'} to the server of {table.dataset}; published: {published}")
        return
    found = measured(report_of(options))
    print(f"{'':12}{'published':>10}{'measured':>10}{'difference':>12}")
    for name, target in table.published.items():
        value = found.get(name, float("nan"))
        print(f"{name:12}{target:10.1f}{value:10.1f}{value - target:+12.1f}")


if __name__ == "__main__":
    main()
