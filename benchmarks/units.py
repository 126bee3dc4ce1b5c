"""Does a change of units change anything? Two clusters an axis at +-s, s / 10 wide, learned at every scale s.

    python benchmarks/units.py [--images 100000] [--scales 1 0.1 0.01 0.001 1e-6 1e6] [--offset 0]

Prints, for each s: the held-out loss, the share of 2,000 samples that lie within 0.3 s of a cluster in every value, and
the root mean square of what the samples differ from those of the first s, over their spread.
"""

import argparse

import numpy as np

import ornstein as orn


def clusters(count: int = 4000) -> np.ndarray:
    """(count, 2) points around (+-1, +-1), 0.1 wide."""
    rng = np.random.default_rng(0)
    return rng.choice([-1.0, 1.0], (count, 2)) + rng.normal(0, 0.1, (count, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 0.1, 0.01, 0.001, 1e-6, 1e6])
    parser.add_argument("--offset", type=float, default=0.0, help="of all values, in units of s")
    args = parser.parse_args()
    first = None
    print("| s | held-out loss | within 0.3 s of a cluster | samples differ by |\n|---|---|---|---|")
    for scale in args.scales:
        model = orn.Trainer((clusters() + args.offset) * scale, images=args.images, seed=0).fit()
        samples = model.data.decode(orn.sample(model, 2000, seed=0)).astype(np.float64) / scale - args.offset
        first = samples if first is None else first
        near = (np.abs(np.abs(samples) - 1) < 0.3).all(1).mean()
        apart = np.sqrt(np.mean((samples - first) ** 2)) / first.std()
        print(f"| {scale:g} | {model.metrics['held_out']:.4f} | {near:.3f} | {apart:.2%} |", flush=True)


if __name__ == "__main__":
    main()
