"""What lies here is not collected: distributions of their own, with their own tests (see ``test_foreign.py``)."""

collect_ignore_glob = ["*"]
