"""The papers' numbers, each beside a computation of this code: the rows of experiments/ledger.py."""
