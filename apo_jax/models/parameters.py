"""What every part of `models` calls parameters."""

from typing import Any

# Arrays by name, nested as the modules are; or their shapes, or their shardings.
Parameters = dict[str, Any]
