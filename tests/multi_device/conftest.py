"""These tests need 8 devices; tests/test_multi_device.py runs them in a process that has them."""

import jax

collect_ignore_glob = [] if jax.device_count() >= 8 else ["test_*.py"]
