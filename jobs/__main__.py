"""`sealift`, and `python -m jobs`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command is loaded, Ctrl-C ends the process as it ends any other: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from jobs.cli import main

if __name__ == "__main__":
    main()
