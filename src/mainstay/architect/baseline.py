"""Baselines: the findings a project already knows, so that only new ones are shown.

A baseline is a JSON file that holds, for each fingerprint, how many findings carry it. Fingerprints hang on
no line numbers, so unrelated edits do not bring old findings back.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report, Suppressed

VERSION = 1
REASON = "known to the baseline"


def read_baseline(file: Path) -> Counter[str]:
    """How many findings of each fingerprint are known. Raises `MainstayError` where the file is not a baseline."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise MainstayError(
                f"{file} is a baseline of version {content['version']}, this Mainstay reads version {VERSION}; "
                "write it anew with --write-baseline."
            )
        return Counter({str(entry["fingerprint"]): int(entry["count"]) for entry in content["findings"]})
    except FileNotFoundError:
        raise MainstayError(
            f"the baseline {file} does not exist; write it first with --write-baseline {file}."
        ) from None
    except OSError as error:
        raise MainstayError(f"the baseline {file} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MainstayError(
            f"{file} is not a baseline; write it anew with --write-baseline {file}."
        ) from error


def apply_baseline(report: Report, known: Counter[str]) -> None:
    """Move the findings that the baseline knows to ``suppressed``; of equal ones, as many as it counts."""
    left, kept = Counter(known), []
    for finding in report.findings:
        if left[finding.fingerprint] > 0:
            left[finding.fingerprint] -= 1
            report.suppressed.append(Suppressed(finding, REASON, by="baseline"))
        else:
            kept.append(finding)
    report.findings = kept


def baseline_text(report: Report) -> str:
    """The content of a baseline that knows every finding of the report, sorted so that it diffs well."""
    findings = [*report.findings, *(entry.finding for entry in report.suppressed if entry.reason == REASON)]
    counts = Counter((finding.fingerprint, finding.edge, finding.location.file) for finding in findings)
    entries = [
        {"fingerprint": fingerprint, "edge": edge, "file": file, "count": count}
        for (fingerprint, edge, file), count in sorted(counts.items(), key=lambda item: (item[0][2], item[0]))
    ]
    return json.dumps({"version": VERSION, "findings": entries}, indent=2) + "\n"
