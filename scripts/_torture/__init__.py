"""The parts of `scripts/torture`: each tries to lose, damage or confuse runs, and counts what came of it."""
