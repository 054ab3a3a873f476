"""Drills: a sample of what a pair's backups hold, restored to a place of its own, compared, and removed.

A backup is worth what its restore is worth. A drill restores by the same run that a person would start, and believes
nothing but what it reads: every byte of the original, of the version that was restored, or of the archive's index.

Reading order: `model` has the nouns, `sample` chooses what is restored, `proof` compares it and removes it, `trial`
takes one step after the other, `summary` says what came of it, as a document of the ledger and a page.

Never remove anything but versions below the drill's own place that its runs' outcomes name.
"""
