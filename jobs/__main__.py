"""`sealift`, and `python -m jobs`."""

import gc
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command is loaded, Ctrl-C ends the process as it ends any other: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from jobs.cli import main

gc.set_threshold(50_000, 20, 20)  # most objects stay, as modules and rows do: to walk them often is for nothing

if __name__ == "__main__":
    main()
