"""What the lab asks pocket: `steergraph lab sweep --tasks training.tasks:POCKET`."""

from training.tasks.pocket import POCKET

__all__ = ["POCKET"]
