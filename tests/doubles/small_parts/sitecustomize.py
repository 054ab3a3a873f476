"""For commands whose PYTHONPATH names this folder: objects above 5 MiB are copied in parts of 5 MiB.

So whole commands have copies in parts without objects above 5 GB. `SMALL_PARTS_MIB`: instead of 5.
"""

import contextlib
import os

with contextlib.suppress(ImportError):  # another program in Python
    import jobs.core.part_sizes as sizes

    sizes.COPY_LIMIT_BYTES = sizes.PREFERRED_PART_BYTES = int(os.environ.get("SMALL_PARTS_MIB", "5")) * 1024**2
