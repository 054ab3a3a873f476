"""The acceptance kit: a scripted day in a real account, compared with what this machine gives.

Reading order: `site` is the system as the script sees it, `script` what a step is and how it is
played, `copies`, `archives`, `in_aws` and `failures` are the steps, `report` says where they differ. `stack`
makes the system in AWS and destroys it, `cost` says what that costs, `local` is the system on this
machine. `__main__` is `make acceptance`.

Nothing here knows whether it is in AWS, but `stack` and `local`.
"""
