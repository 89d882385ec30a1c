"""The medians of what was measured, a line for each test and number of connections, and their ratios."""

import collections
import json
import statistics
import sys


def main() -> None:
    measured = collections.defaultdict(lambda: collections.defaultdict(list))
    with open(sys.argv[1]) as lines:
        for line in map(json.loads, lines):
            measured[line["test"], line["c"]][line["service"]].append(line)
    print("| test | connections | RelayTrace/s | Restate/s | ratio | p50, ms | p99, ms | Restate's p50 | p99 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (test, connections), services in sorted(measured.items()):
        if len(services) != 2:
            sys.exit(f"{test} at {connections} was measured at {list(services)} alone")
        ours, theirs = (
            {figure: statistics.median(line[figure] for line in services[name]) for figure in ("per_s", "p50_ms", "p99_ms")}
            for name in ("relaytrace", "restate")
        )
        print(f"| {test} | {connections} | {ours['per_s']:.0f} | {theirs['per_s']:.0f} "
              f"| {ours['per_s'] / theirs['per_s']:.2f} | {ours['p50_ms']:.2f} | {ours['p99_ms']:.2f} "
              f"| {theirs['p50_ms']:.2f} | {theirs['p99_ms']:.2f} |")


if __name__ == "__main__":
    main()
