"""What every long computation needs: processes, identity, random states, a place to compute."""

from sibx.runs.place import named_device, pick_device, placed
from sibx.runs.ranks import gather_rows, rank, world_size

__all__ = ["gather_rows", "named_device", "pick_device", "placed", "rank", "world_size"]
