"""Inputs that grow by what they reach: a coverage-guided run over everything pure that reads bytes of the enemy.

    scripts/fuzz                         all targets, a minute in all
    scripts/fuzz policy --seconds 600    one target
    scripts/fuzz --runs 10000000         so many inputs in all
    scripts/fuzz --replay                the kept inputs only
    scripts/fuzz --keep                  what a run finds joins the corpus, which is then made small again

A target is `check(data)`: it raises when a promise is broken. What is kept of a run is in `corpus/TARGET`, one input a
file. An input that fails is printed with its place, and is replayed with `scripts/fuzz TARGET --input FILE`.
"""
