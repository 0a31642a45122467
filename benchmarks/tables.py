"""Write the documentation's tables from `results/`: figures are generated, never typed.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table: name -->` and `<!-- end -->`. With `--check` nothing is written, and the exit code
is 1 if a table is not what its results say.
"""

import argparse
import re
import sys

from figures import layers, looks, models, parts, rates, services, times
from figures.text import ROOT

PAGES = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{page}.md"
        for page in (
            "comparison",
            "quality",
            "tiny",
            "embedding",
            "export",
            "images",
            "parts",
            "serve",
            "dataset",
            "scale",
            "browser",
        )
    ),
)
TABLES = {
    name: table
    for module in (layers, looks, models, parts, rates, services, times)
    for name, table in module.TABLES.items()
}
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables from the results.")
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text("utf-8")
        fresh = MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)
        if fresh != text:
            stale.append(page.name)
            if not check:
                page.write_text(fresh, "utf-8")
    if check and stale:
        print(f"tables of {', '.join(stale)} are stale; run: python benchmarks/tables.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
