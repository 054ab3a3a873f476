"""For commands whose PYTHONPATH names this folder: a lease lasts a tenth, and so does all that its length follows from.

`tests/runs/test_leases.py` shows what the lengths are for.
"""

import contextlib

with contextlib.suppress(ImportError):  # another program in Python
    import jobs.runs.leases as leases

    for name in ("LOOK", "FRESH", "DELETE_FRESH", "OLDEST_LOOK", "LEASE", "POLL"):
        setattr(leases, f"{name}_SECONDS", getattr(leases, f"{name}_SECONDS") / 10)
